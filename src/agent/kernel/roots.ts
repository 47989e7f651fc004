/** Page-table roots of tasks, read from the kernel's task list. The tasks wanted are frozen, so theirs do not change. */
import { MwarpError } from "../../errors.js";
import type { KernelFacts } from "./facts.js";
import { Kcore } from "./kcore.js";

/** More tasks than a guest has: a list that goes on is no list. */
const MAX_TASKS = 200_000;
const ATTEMPTS = 12;

type Direction = "backward" | "forward";

/** Where a task's page tables begin, and where the kernel keeps the task. */
export interface TaskPlace {
  /** GPA of mm->pgd. */
  readonly rootGpa: number;
  /** Kernel virtual address of the task_struct, decimal. */
  readonly taskAddress: string;
}

/**
 * The place of each pid. Walks the list from its end: the tasks of a restored container are the newest. Tasks come
 * and go during a walk: one that lost its way is walked again, and now and then from the front, since the kernel keeps
 * the forward link of a task that it takes out, and poisons the backward one.
 */
export function taskRoots(facts: KernelFacts, pids: readonly number[]): Map<number, TaskPlace> {
  const wanted = new Set(pids);
  const kcore = new Kcore();
  try {
    let failure: unknown;
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      try {
        const roots = walk(kcore, facts, wanted, attempt % 3 === 0 ? "forward" : "backward");
        if (roots.size === wanted.size) return roots;
      } catch (error) {
        failure = error;
      }
    }
    throw new MwarpError("MWARP_E_INTERNAL", `page tables of pids ${pids.join(", ")} not found`, {
      cause: failure,
    });
  } finally {
    kcore.close();
  }
}

function walk(
  kcore: Kcore,
  facts: KernelFacts,
  wanted: ReadonlySet<number>,
  direction: Direction,
): Map<number, TaskPlace> {
  const { tasks, pid, mm } = facts.taskStruct;
  // One read per task: the part of task_struct from the first to the last member of interest.
  const first = Math.min(tasks, pid, mm);
  const bytes = Math.max(tasks, pid, mm) + 16 - first;
  const head = BigInt(facts.initTask) + BigInt(tasks);
  const base = BigInt(facts.directMapBase);
  const link = direction === "forward" ? 0 : 8;
  const roots = new Map<number, TaskPlace>();
  let node = kcore.readWord(head + BigInt(link));
  for (let count = 0; node !== head && count < MAX_TASKS && roots.size < wanted.size; count++) {
    const address = node - BigInt(tasks);
    const task = kcore.read(address + BigInt(first), bytes);
    const taskPid = task.readInt32LE(pid - first);
    const mmAddress = task.readBigUInt64LE(mm - first);
    if (wanted.has(taskPid) && mmAddress !== 0n) {
      const rootGpa = Number(kcore.readWord(mmAddress + BigInt(facts.mmPgd)) - base);
      roots.set(taskPid, { rootGpa, taskAddress: String(address) });
    }
    node = task.readBigUInt64LE(tasks - first + link);
  }
  return roots;
}

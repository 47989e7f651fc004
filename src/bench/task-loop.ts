/** Task after task: each record is on disk before the next task begins, and what fails is written down. */
import { MwarpError, toMwarpError } from "../errors.js";
import { failureRecord } from "./failure.js";
import { nameOfTask, type Task } from "./plan.js";
import { type BenchProgress, isGood } from "./progress.js";
import type { BenchRecord } from "./records.js";

/** What measures. */
export interface Bench {
  /** One record, or several that belong together. */
  measure(task: Task): Promise<readonly [BenchRecord, ...BenchRecord[]]>;
  /** Throws away what the last task may have spoiled; whether the next one can be measured here. */
  recover(): Promise<boolean>;
}

export interface LoopOptions {
  /** Puts records on disk. */
  readonly append: (...records: readonly BenchRecord[]) => void;
  readonly progress: Pick<BenchProgress, "start" | "measured" | "failed">;
  readonly signal: AbortSignal;
}

/** Runs tasks until all are done or nothing can be measured any more; gives those that are left. @throws MWARP_E_CANCELLED */
export async function runTasks(
  tasks: readonly Task[],
  bench: Bench,
  { append, progress, signal }: LoopOptions,
): Promise<readonly Task[]> {
  for (const [index, task] of tasks.entries()) {
    if (signal.aborted) throw new MwarpError("MWARP_E_CANCELLED", "interrupted");
    let fine = false;
    progress.start(task);
    try {
      const records = await bench.measure(task);
      append(...records);
      const [record] = records;
      progress.measured(task, record);
      fine = isGood(record);
    } catch (error) {
      if (signal.aborted) throw new MwarpError("MWARP_E_CANCELLED", "interrupted", { cause: error });
      append(failureRecord(nameOfTask(task), task.round, error));
      progress.failed(nameOfTask(task), toMwarpError(error).message, [task]);
    }
    if (!fine && !(await bench.recover())) return tasks.slice(index + 1);
  }
  return [];
}

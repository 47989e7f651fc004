/**
 * Notices a CRIU that was killed under runc. runc reads CRIU's socket until it ends, and the tasks that a dead CRIU leaves
 * parked in its restorer hold that socket open: runc would wait for ever, with CRIU as its zombie child.
 */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { readIfThere, readNumber } from "../files.js";
import { killJob } from "../job.js";
import { log } from "../log.js";

/** CRIU processes that runc starts to ask for a version are zombies for a moment; a dead one stays. */
const DEAD_AFTER_MS = 3_000;
const LOOK_EVERY_MS = 1_000;
/** 128 + SIGKILL, as shells have it. */
const KILLED = 137;

export class CriuWatch {
  readonly #job: string;
  #lookedAt = performance.now();
  #deadSince: number | null = null;

  /** @param job directory of the runc job (job.ts) */
  constructor(job: string) {
    this.#job = job;
  }

  /**
   * Kills a runc whose CRIU is dead, with all that hangs on to CRIU's socket; there is nothing left for it to undo.
   * Answers its exit code, as of a process killed by SIGKILL, or null when all is well. Cheap to call often.
   */
  async endOrphan(): Promise<number | null> {
    if (!(await this.#isDead())) return null;
    log("warn", `CRIU is dead and runc waits for it: ${this.#job} is killed`);
    await killJob(this.#job);
    return KILLED;
  }

  async #isDead(): Promise<boolean> {
    const now = performance.now();
    if (now - this.#lookedAt < LOOK_EVERY_MS) return false;
    this.#lookedAt = now;
    this.#deadSince = (await hasZombieCriu(this.#job)) ? (this.#deadSince ?? now) : null;
    return this.#deadSince !== null && now - this.#deadSince >= DEAD_AFTER_MS;
  }
}

/** Whether runc has a child that was CRIU and is a zombie, and none that is alive. */
async function hasZombieCriu(job: string): Promise<boolean> {
  const shim = await readNumber(join(job, "pid"));
  if (shim === null) return false;
  const states: string[] = [];
  for (const runc of await childrenOf(shim)) {
    for (const pid of await childrenOf(runc)) {
      const stat = await readIfThere(`/proc/${pid}/stat`);
      const criu = /^\d+ \(criu\) (\w) /.exec(stat ?? "");
      if (criu !== null) states.push(criu[1]!);
    }
  }
  return states.length > 0 && states.every((state) => state === "Z");
}

/** Children of all threads: runc forks from whichever runs. Empty when the process is gone. */
async function childrenOf(pid: number): Promise<number[]> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  const lists = await Promise.all(threads.map((tid) => readIfThere(`/proc/${pid}/task/${tid}/children`)));
  return lists.flatMap((list) =>
    (list ?? "")
      .split(" ")
      .filter((word) => word.trim() !== "")
      .map(Number),
  );
}

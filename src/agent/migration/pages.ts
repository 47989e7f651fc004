/** Page runs of several tasks, split for the helper, which takes one task at a time. */
import { MwarpError } from "../../errors.js";
import type { PageRun, Task } from "../../protocol/agent.js";

export interface TaskRuns {
  readonly pid: number;
  readonly runs: readonly PageRun[];
}

/** Consecutive runs of the same task together, in the order given: the order of the bytes in a stream. */
export function byTask(runs: readonly PageRun[], tasks: readonly Task[]): TaskRuns[] {
  const pids = new Map(tasks.map((task) => [task.nsPid, task.pid]));
  const groups: { pid: number; runs: PageRun[] }[] = [];
  for (const run of runs) {
    const pid = pids.get(run.nsPid);
    if (pid === undefined) {
      throw new MwarpError("MWARP_E_PROTOCOL", `the container has no task with pid ${run.nsPid}`);
    }
    const last = groups.at(-1);
    if (last?.pid === pid) last.runs.push(run);
    else groups.push({ pid, runs: [run] });
  }
  return groups;
}

/** Measures what needs no VM: plans against times, and where remapping and copying cross over. */
import { MwarpError } from "../errors.js";
import { HUGE_BYTES } from "../units.js";
import { withHugePages } from "./huge-pages.js";
import type { Place } from "./lab.js";
import type { Task } from "./plan.js";
import { measureCrossover, measurePlanner } from "./planner.js";
import type { BenchRecord } from "./records.js";
import type { Bench } from "./task-loop.js";

type Records = readonly [BenchRecord, ...BenchRecord[]];

export class HostSession implements Bench {
  readonly #place: Place;
  readonly #signal: AbortSignal;

  constructor(place: Place, signal: AbortSignal) {
    this.#place = place;
    this.#signal = signal;
  }

  async measure(task: Task): Promise<Records> {
    if (task.kind !== "planner" && task.kind !== "crossover")
      throw new MwarpError("MWARP_E_INTERNAL", `${task.kind} is not measured without a lab`);
    const { round, host_page_bytes } = task;
    const measure = (): Promise<readonly BenchRecord[]> =>
      task.kind === "planner"
        ? measurePlanner(round, host_page_bytes, this.#signal)
        : measureCrossover(round, host_page_bytes, this.#signal);
    const [first, ...others] =
      host_page_bytes < HUGE_BYTES ? await measure() : await withHugePages(this.#place, measure);
    if (first === undefined) throw new MwarpError("MWARP_E_INTERNAL", "nothing was measured");
    return [first, ...others];
  }

  /** Each measurement begins with memory of its own. */
  async recover(): Promise<boolean> {
    return true;
  }
}

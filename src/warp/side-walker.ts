/**
 * Walks a destination's page tables on a thread of its own, so that both guests' are read side by side. In a stun both VMs stand
 * still, so there is a processor for it; where there is none, or anything is amiss with the thread, the walk is taken back and
 * done by who asked: nothing but time depends on it.
 *
 * Each of the two readers has its own bound of work (PageTableWalker: no more tables than its guest has frames) and holds one
 * table of each level. Beside them there are 7 shared bytes for each wanted page, made once, and nobody wants more pages than
 * the destination has frames.
 */
import { Worker } from "node:worker_threads";
import { distFile } from "../paths.js";
import type { Walk } from "./address-space-walk.js";
import type { WantedPages } from "./page-ranges.js";
import { sharedWalkOutput } from "./pagewalk.js";
import type { GuestView } from "./physical-memory.js";
import { type SideWalkGuest, type SideWalkRequest, WalkState } from "./side-walk.js";
import { firstOf } from "./table-room.js";

/** For a thread that walks, ms, where the other half of the table was made faster than that: the least that is waited. */
const LEAST_WAIT_MS = 50;

export class SideWalker {
  readonly #worker: Worker;
  #out = sharedWalkOutput(0);
  #ended = false;

  /** @param onEnd told why, when the thread ends unasked: then all is walked by who asks */
  constructor(guest: SideWalkGuest, onEnd: (reason: string) => void) {
    this.#worker = new Worker(distFile("warp", "side-walk-main.js"), { workerData: guest });
    this.#worker.unref();
    this.#worker.on("error", (error) => onEnd(error.message));
    this.#worker.on("exit", () => {
      this.#ended = true;
    });
  }

  /**
   * Asks for a walk, and gives what to call for its result, good until the next is asked for: null when there is none, for
   * whatever reason. That blocks, but no longer than the caller worked in between.
   */
  begin(guest: GuestView, wanted: WantedPages): () => Walk | null {
    if (this.#ended) return () => null;
    const since = performance.now();
    const { memory: _, ...view } = guest;
    if (wanted.total > this.#out.frames.length) this.#out = sharedWalkOutput(wanted.total);
    const out = firstOf(this.#out, wanted.total);
    const control = new Int32Array(new SharedArrayBuffer(8));
    this.#worker.postMessage({ guest: view, wanted, out, control } satisfies SideWalkRequest);
    return () => {
      const { asked, walking, takenBack, done } = WalkState;
      if (Atomics.compareExchange(control, 0, asked, takenBack) === asked) return null;
      Atomics.wait(control, 0, walking, Math.max(LEAST_WAIT_MS, performance.now() - since));
      const state = Atomics.load(control, 0);
      // It goes on writing to what the next walk's result would be read from.
      if (state === walking) this.#out = sharedWalkOutput(0);
      return state === done ? { ...out, tableReads: control[1] } : null;
    };
  }

  close(): void {
    void this.#worker.terminate();
  }
}

/** One operation of a migration, or on a container, at a time. An abort does not queue behind what it is meant to stop: it stops it first. */
import { MwarpError } from "../errors.js";

export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();
  /** Of each migration, those that run or wait for their turn. */
  readonly #begun = new Map<string, Set<AbortController>>();

  /** Runs `work` after the operation before it; `signal` and `interrupt` both end it. */
  async run<T>(id: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    const begun = this.#begun.get(id) ?? new Set();
    this.#begun.set(id, begun.add(controller));
    const turn = (this.#last.get(id) ?? Promise.resolve()).then(async () => {
      const either = AbortSignal.any([signal, controller.signal]);
      either.throwIfAborted();
      return work(either);
    });
    const settled = turn.catch(() => undefined);
    this.#last.set(id, settled);
    try {
      return await turn;
    } finally {
      begun.delete(controller);
      if (this.#last.get(id) === settled) {
        this.#last.delete(id);
        this.#begun.delete(id);
      }
    }
  }

  /** Stops what runs and what waits, then runs `work` to its end, whoever hangs up meanwhile. */
  interrupt<T>(id: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    for (const controller of this.#begun.get(id) ?? [])
      controller.abort(new MwarpError("MWARP_E_CANCELLED", "overtaken by the end of the migration"));
    return this.run(id, new AbortController().signal, work);
  }
}

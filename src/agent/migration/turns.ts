/** One operation of a migration at a time. An abort does not queue behind what it is meant to stop: it stops it first. */
import { MwarpError } from "../../errors.js";

export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();
  readonly #running = new Map<string, AbortController>();

  /** Runs `work` after the operation before it; `signal` and `interrupt` both end it. */
  async run<T>(id: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    const turn = (this.#last.get(id) ?? Promise.resolve()).then(async () => {
      this.#running.set(id, controller);
      try {
        const either = AbortSignal.any([signal, controller.signal]);
        either.throwIfAborted();
        return await work(either);
      } finally {
        if (this.#running.get(id) === controller) this.#running.delete(id);
      }
    });
    const settled = turn.catch(() => undefined);
    this.#last.set(id, settled);
    try {
      return await turn;
    } finally {
      if (this.#last.get(id) === settled) this.#last.delete(id);
    }
  }

  /** Stops the running operation, then runs `work` to its end, whoever hangs up meanwhile. */
  interrupt<T>(id: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    this.#running
      .get(id)
      ?.abort(new MwarpError("MWARP_E_CANCELLED", "overtaken by the end of the migration"));
    return this.run(id, new AbortController().signal, work);
  }
}

/**
 * One operation per container at a time.
 *
 * INVARIANT: a name is in `held` exactly while the operation that took it runs; taking is synchronous, so two
 * requests of one tick cannot both win.
 */
import { MwarpError } from "../errors.js";

/** What holds a container, for whoever is refused. */
export interface Operation {
  readonly what: string;
  /** Replaces the usual hint when there is something better to do than to try again. */
  readonly hint?: string;
}

interface Holder {
  operation: Operation;
  readonly since: number;
}

/** A container that is held; given back when disposed of. */
export interface Hold extends Disposable {
  /** Says better what it is held for, once that is known. */
  explain(operation: Operation): void;
}

export class ContainerLocks {
  readonly #held = new Map<string, Holder>();
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** Takes the container until the returned object is disposed of. @throws MWARP_E_BUSY */
  take(container: string, operation: Operation): Hold {
    const holder = this.#held.get(container);
    if (holder !== undefined) {
      const seconds = ((this.#now() - holder.since) / 1000).toFixed(1);
      throw new MwarpError(
        "MWARP_E_BUSY",
        `container "${container}" is busy: ${holder.operation.what}, for ${seconds} s`,
        holder.operation.hint === undefined ? {} : { hint: holder.operation.hint },
      );
    }
    const mine: Holder = { operation, since: this.#now() };
    this.#held.set(container, mine);
    return {
      explain: (better) => {
        mine.operation = better;
      },
      [Symbol.dispose]: () => {
        if (this.#held.get(container) === mine) this.#held.delete(container);
      },
    };
  }

  get size(): number {
    return this.#held.size;
  }
}

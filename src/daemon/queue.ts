/** From callbacks to an async iterable, with back pressure: `push` waits while the reader is far behind. */

/** Items held before `push` waits. An item of a stream is at most one agent chunk (256 KiB). */
const HIGH_WATER = 16;

export class EventQueue<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  #ended = false;
  #error: { thrown: unknown } | null = null;
  #wakeReader: (() => void) | null = null;
  #wakeWriters: (() => void)[] = [];

  /** Adds an item; resolves once the reader has caught up enough, or the reader has gone. */
  async push(item: T): Promise<void> {
    this.add(item);
    while (!this.#ended && this.#items.length >= HIGH_WATER)
      await new Promise<void>((resolve) => this.#wakeWriters.push(resolve));
  }

  /** Adds an item at once, for what is small and rare. */
  add(item: T): void {
    if (this.#ended) return;
    this.#items.push(item);
    this.#wakeReader?.();
  }

  /** No more items; the reader still gets those that wait. */
  end(): void {
    this.#ended = true;
    this.#wakeReader?.();
    this.#releaseWriters();
  }

  /** Ends with an error, which the reader meets after the items that wait. */
  fail(thrown: unknown): void {
    if (this.#ended) return;
    this.#error = { thrown };
    this.end();
  }

  /** Ends as `outcome` does: with a last item that is made of its result, or with its error. */
  endWith<R>(outcome: Promise<R>, last: (result: R) => T): void {
    outcome.then(
      (result) => {
        this.add(last(result));
        this.end();
      },
      (error: unknown) => this.fail(error),
    );
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void> {
    try {
      while (true) {
        while (this.#items.length > 0) {
          const item = this.#items.shift()!;
          if (this.#items.length < HIGH_WATER) this.#releaseWriters();
          yield item;
        }
        if (this.#ended) break;
        await new Promise<void>((resolve) => {
          this.#wakeReader = resolve;
        });
        this.#wakeReader = null;
      }
      if (this.#error !== null) throw this.#error.thrown;
    } finally {
      this.end();
    }
  }

  #releaseWriters(): void {
    const writers = this.#wakeWriters;
    this.#wakeWriters = [];
    for (const wake of writers) wake();
  }
}

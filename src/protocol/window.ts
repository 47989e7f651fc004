/** Flow control of one stream: how much the sender may send, and whether it keeps to that. */
import { CHUNK_OVERHEAD_BYTES, STREAM_WINDOW_BYTES } from "./agent.js";

/** What a chunk takes of the window: one of a single byte is not free to keep. */
export const chunkCost = (bytes: number): number => bytes + CHUNK_OVERHEAD_BYTES;

/** The sender's end. `take` waits for credit, `grant` gives it, `fail` ends every wait. */
export class SendWindow {
  #free = STREAM_WINDOW_BYTES;
  #failure: Error | null = null;
  #waiting: { cost: number; resolve: () => void; reject: (error: Error) => void }[] = [];

  /** Waits until a chunk of so many bytes may be sent. Rejects with what `fail` was given. */
  take(bytes: number): Promise<void> {
    const cost = chunkCost(bytes);
    if (this.#failure) return Promise.reject(this.#failure);
    if (this.#waiting.length === 0 && cost <= this.#free) {
      this.#free -= cost;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ cost, resolve, reject });
    });
  }

  /** However much the other side says it has consumed, it never gets more than a window. */
  grant(credit: number): void {
    this.#free = Math.min(this.#free + credit, STREAM_WINDOW_BYTES);
    for (let first = this.#waiting[0]; first && first.cost <= this.#free; first = this.#waiting[0]) {
      this.#free -= first.cost;
      this.#waiting.shift();
      first.resolve();
    }
  }

  fail(error: Error): void {
    this.#failure ??= error;
    for (const waiting of this.#waiting.splice(0)) waiting.reject(this.#failure);
  }
}

/** The receiver's end: what waits here to be consumed. A sender that was granted nothing more may not add to it. */
export class ReceiveWindow {
  #held = 0;

  /** Counts a chunk that has come; false when its sender had no credit for it. */
  take(bytes: number): boolean {
    this.#held += chunkCost(bytes);
    return this.#held <= STREAM_WINDOW_BYTES;
  }

  /** Counts a chunk that was consumed; answers with the credit to give for it. */
  release(bytes: number): number {
    const cost = chunkCost(bytes);
    this.#held -= cost;
    return cost;
  }
}

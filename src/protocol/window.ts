/** Flow control of one stream: the sender's view of what the receiver has not yet consumed. */
import { STREAM_WINDOW_BYTES } from "./agent.js";

/** Bytes that may be under way. `take` waits for credit, `grant` gives it, `fail` ends every wait. */
export class SendWindow {
  #free = STREAM_WINDOW_BYTES;
  #failure: Error | null = null;
  #waiting: { bytes: number; resolve: () => void; reject: (error: Error) => void }[] = [];

  /** Waits until `bytes` (at most a whole window) may be sent. Rejects with what `fail` was given. */
  take(bytes: number): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    if (this.#waiting.length === 0 && bytes <= this.#free) {
      this.#free -= bytes;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ bytes, resolve, reject });
    });
  }

  grant(bytes: number): void {
    this.#free += bytes;
    for (let first = this.#waiting[0]; first && first.bytes <= this.#free; first = this.#waiting[0]) {
      this.#free -= first.bytes;
      this.#waiting.shift();
      first.resolve();
    }
  }

  fail(error: Error): void {
    this.#failure ??= error;
    for (const waiting of this.#waiting.splice(0)) waiting.reject(this.#failure);
  }
}

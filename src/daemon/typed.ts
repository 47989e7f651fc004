/**
 * What somebody attached has typed, until the shim of the container's VM has said that it has it: what it did not take before the
 * container moved is said again to the shim of the other VM. The size of the window is, too.
 */
import {
  encodeTerminalFrame,
  FrameKinds,
  type TerminalFrame,
  TerminalFrameReader,
} from "../protocol/terminal.js";

/** Pieces that wait before no more is read from whoever types. */
const MOST_WAITING = 64;

export class Typed {
  /** Not taken yet, in order; never changed but at its ends. */
  readonly #typed: Buffer[] = [];
  #window: Buffer | null = null;
  /** Counts sizes, so that a reader knows of a new one. */
  #windows = 0;
  /** Of all that was ever typed, so many pieces are taken. */
  #taken = 0;
  #ended = false;
  #wake = new Set<() => void>();

  /** Reads what comes until its end. @throws RangeError for what is no frame */
  async read(source: AsyncIterable<Uint8Array>): Promise<void> {
    const frames = new TerminalFrameReader();
    try {
      for await (const data of source) {
        for (const frame of frames.push(data)) this.#add(frame);
        while (this.#typed.length > MOST_WAITING && !this.#ended) await this.#change();
      }
    } finally {
      this.end();
    }
  }

  #add({ kind, bytes }: TerminalFrame): void {
    if (kind === FrameKinds.window) {
      this.#window = encodeTerminalFrame(FrameKinds.window, bytes);
      this.#windows++;
    } else if (kind === FrameKinds.typed && bytes.length > 0) {
      this.#typed.push(bytes);
    }
    this.#wakeAll();
  }

  /** The shim has taken so many bytes: whole pieces, in order. */
  taken(bytes: number): void {
    while (bytes > 0 && this.#typed.length > 0) {
      bytes -= this.#typed.shift()?.length ?? 0;
      this.#taken++;
    }
    this.#wakeAll();
  }

  /** Nobody types any more. */
  end(): void {
    this.#ended = true;
    this.#wakeAll();
  }

  /** The frames for one shim: the size of the window, what nobody has taken, and what is typed from now on, until `signal`. */
  async *frames(signal: AbortSignal): AsyncGenerator<Uint8Array, void> {
    let windows = 0;
    let next = this.#taken;
    const wake = (): void => this.#wakeAll();
    signal.addEventListener("abort", wake);
    try {
      while (!signal.aborted) {
        const piece = this.#typed[next - this.#taken];
        if (this.#window !== null && windows !== this.#windows) {
          windows = this.#windows;
          yield this.#window;
        } else if (piece !== undefined) {
          next++;
          yield encodeTerminalFrame(FrameKinds.typed, piece);
        } else if (this.#ended) {
          return;
        } else {
          await this.#change();
        }
      }
    } finally {
      signal.removeEventListener("abort", wake);
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#wake.add(resolve));
  }

  #wakeAll(): void {
    const waiting = this.#wake;
    this.#wake = new Set();
    for (const wake of waiting) wake();
  }
}

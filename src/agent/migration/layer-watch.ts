/** Client of `mwarp-guest layer`, which says what of a container's files has changed; one for a migration (native/guest/layer.c). */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { MwarpError } from "../../errors.js";
import { HELPER } from "../paths.js";

const ANSWER_BYTES = 32;
/** The letter of a request that is followed by more. */
const KNOW = Buffer.of("k".charCodeAt(0));
/** So much of what it says waits here at most, besides what is asked for at once. */
const MOST_WAITING = 4 * 1024 * 1024;

export interface WatchedFiles {
  readonly dir: string;
  readonly cgroup: string;
  /** The container's root as this VM sees it. */
  readonly root: string;
  /** Below `dir`: "upper", and those of volumes. */
  readonly trees: readonly string[];
}

export interface Changes {
  /** Everything is told of, as it was asked for or nothing was remembered. */
  readonly whole: boolean;
  /** For the other side (native/guest/incoming.c). */
  readonly changes: Buffer;
  /** For tar, each with a zero byte at its end. */
  readonly names: Buffer;
  /** Of large files, what differs (native/guest/blocks.c): so many bytes, to be taken with `blocks`. */
  readonly blocksBytes: number;
}

interface Answer {
  readonly whole: boolean;
  readonly a: number;
  readonly b: number;
  readonly c: number;
}

export class LayerWatch {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #pieces: Buffer[] = [];
  #waiting = 0;
  #wake: () => void = () => undefined;
  #over = false;
  readonly #ended: Promise<void>;

  constructor({ dir, cgroup, root, trees }: WatchedFiles) {
    this.#child = spawn(HELPER, ["layer", dir, cgroup, root, ...trees], {
      stdio: ["pipe", "pipe", "ignore"],
    });
    this.#child.stdin.on("error", () => undefined);
    this.#child.stdout.on("data", (data: Buffer) => {
      this.#pieces.push(data);
      this.#waiting += data.length;
      if (this.#waiting > MOST_WAITING) this.#child.stdout.pause();
      this.#wake();
    });
    this.#ended = new Promise((resolve) => {
      const over = (): void => {
        this.#over = true;
        this.#wake();
        resolve();
      };
      this.#child.on("error", over);
      this.#child.on("close", over);
    });
  }

  /** Whether it can still be asked. */
  get waits(): boolean {
    return !this.#over;
  }

  /** Before the first pass. @throws MWARP_E_RUNTIME when it cannot tell what will change: then there is no use in a first pass */
  async remember(signal: AbortSignal): Promise<{ files: number; bytes: number }> {
    const { a, b } = await this.#ask("s", signal);
    return { files: a, bytes: b };
  }

  /** After the first pass. Gives the names of large files, for native/guest/digest.c on the other side. */
  async passed(signal: AbortSignal): Promise<Buffer> {
    const { a } = await this.#ask("d", signal);
    return this.#take(a, signal);
  }

  /** What the other side says of these files. @throws MWARP_E_RUNTIME when that makes no sense */
  async know(digests: Uint8Array, signal: AbortSignal): Promise<void> {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(digests.length));
    await this.#ask(Buffer.concat([KNOW, bytes, digests]), signal);
  }

  /** Once the container stands still. @param whole as if there had been no first pass */
  async changes(whole: boolean, signal: AbortSignal): Promise<Changes> {
    const answer = await this.#ask(whole ? "w" : "r", signal);
    const changes = await this.#take(answer.a, signal);
    const names = await this.#take(answer.b, signal);
    return { whole: answer.whole, changes, names, blocksBytes: answer.c };
  }

  /** What `changes` has announced, piece by piece. */
  async *blocks(bytes: number, signal: AbortSignal): AsyncGenerator<Buffer> {
    for (let left = bytes; left > 0; ) {
      const data = await this.#take(Math.min(left, Math.max(this.#waiting, 1)), signal);
      left -= data.length;
      yield data;
    }
  }

  async end(): Promise<void> {
    this.#child.kill("SIGKILL");
    // Its end shows once all that it said was taken.
    this.#child.stdout.resume();
    await this.#ended;
  }

  async #ask(request: string | Buffer, signal: AbortSignal): Promise<Answer> {
    this.#child.stdin.write(request);
    const answer = await this.#take(ANSWER_BYTES, signal);
    const status = answer.readInt32LE(0);
    if (status < 0)
      throw new MwarpError(
        "MWARP_E_RUNTIME",
        `the container's files could not be looked through (errno ${-status})`,
      );
    const [a = 0, b = 0, c = 0] = [8, 16, 24].map((at) => Number(answer.readBigUInt64LE(at)));
    return { whole: answer.readUInt32LE(4) !== 0, a, b, c };
  }

  async #take(bytes: number, signal: AbortSignal): Promise<Buffer> {
    const wake = (): void => this.#wake();
    signal.addEventListener("abort", wake);
    try {
      while (this.#waiting < bytes) {
        signal.throwIfAborted();
        if (this.#over) throw new MwarpError("MWARP_E_RUNTIME", `${HELPER} layer ended`);
        this.#child.stdout.resume();
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      signal.removeEventListener("abort", wake);
    }
    const all = Buffer.concat(this.#pieces);
    this.#pieces.splice(0, this.#pieces.length, all.subarray(bytes));
    this.#waiting -= bytes;
    return all.subarray(0, bytes);
  }
}

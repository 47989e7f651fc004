/** This process's own terminal, connected to a container's: raw keys, size of the window, keys that detach. */
import { once } from "node:events";
import { PassThrough } from "node:stream";
import type { DaemonClient } from "../daemon/client.js";
import { ExitCode } from "../errors.js";
import type { AttachRequest } from "../protocol/api.js";
import { typedFrames, type Window, windowFrame } from "../protocol/terminal.js";
import { DetachKeys } from "./detach-keys.js";
import type { Io } from "./io.js";
import { Interrupted, type Session } from "./session.js";

/** Size of the terminal that stdout is; null when it is none. */
export function windowOf({ stdout }: Pick<Io, "stdout">): Window | null {
  const { isTTY, rows, columns } = stdout;
  return isTTY === true && rows !== undefined && columns !== undefined ? { rows, columns } : null;
}

export interface AttachOptions {
  readonly from: AttachRequest["from"];
  readonly keys: Buffer;
}

/**
 * Attached until the container ends, whose exit code becomes this command's, or until somebody detaches. With a terminal on both sides
 * every key is the container's, Ctrl-C too; otherwise Ctrl-C ends the command, and the container goes on.
 */
export async function attachTo(
  session: Session,
  daemon: DaemonClient,
  name: string,
  { from, keys }: AttachOptions,
): Promise<void> {
  const { io } = session;
  const detach = new AbortController();
  const typing = new Typing(io, keys, () => detach.abort());
  let at: string | null = null;
  try {
    session.exitCode = await session.interruptible((signal) =>
      daemon.attach(
        name,
        { from },
        {
          frames: typing.frames,
          signal: AbortSignal.any([signal, detach.signal]),
          attached: (vm, terminal) => {
            if (at === null && terminal) typing.begin();
            at = vm;
          },
          write: async (fd, data) => {
            const stream = fd === 2 ? io.stderr : io.stdout;
            if (!stream.write(data)) await once(stream, "drain");
          },
        },
      ),
    );
  } catch (error) {
    if (!detach.signal.aborted || error instanceof Interrupted) throw error;
    session.exitCode = ExitCode.done;
  } finally {
    typing.end();
  }
  if (detach.signal.aborted) session.say(`detached; ${name} goes on: mwarp attach ${name}`);
}

/** What is typed here, as frames for the container's terminal. */
class Typing {
  readonly frames = new PassThrough();
  readonly #io: Io;
  readonly #keys: DetachKeys;
  readonly #onDetach: () => void;
  #begun = false;

  constructor(io: Io, keys: Buffer, onDetach: () => void) {
    this.#io = io;
    this.#keys = new DetachKeys(keys);
    this.#onDetach = onDetach;
  }

  begin(): void {
    const { stdin, stdout } = this.#io;
    this.#begun = true;
    stdin.setRawMode?.(true);
    this.#sendWindow();
    stdout.on("resize", this.#sendWindow);
    stdin.on("data", this.#onData);
    stdin.on("end", this.#onEnd);
  }

  end(): void {
    if (this.#begun) {
      const { stdin, stdout } = this.#io;
      stdout.off("resize", this.#sendWindow);
      stdin.off("data", this.#onData);
      stdin.off("end", this.#onEnd);
      stdin.setRawMode?.(false);
      // One that is still read keeps the process alive.
      stdin.destroy();
    }
    this.frames.end();
  }

  readonly #onData = (data: Buffer | string): void => {
    const { passOn, detached } = this.#keys.push(Buffer.from(data));
    const { stdin } = this.#io;
    for (const frame of typedFrames(passOn))
      if (!this.frames.write(frame)) {
        stdin.pause();
        this.frames.once("drain", () => stdin.resume());
      }
    if (detached) this.#onDetach();
  };

  readonly #onEnd = (): void => {
    this.frames.end();
  };

  readonly #sendWindow = (): void => {
    const window = windowOf(this.#io);
    if (window !== null && !this.frames.writableEnded) this.frames.write(windowFrame(window));
  };
}

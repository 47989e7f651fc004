/** An Io that collects what is printed and lets a test press Ctrl-C. */
import { PassThrough, Readable, Writable } from "node:stream";
import type { Io, OutStream } from "../../../src/cli/io.js";
import { run } from "../../../src/cli/program.js";

export class Sink extends Writable {
  text = "";
  isTTY = false;
  columns = 100;

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

export class FakeIo implements Io {
  readonly stdin: Readable & { isTTY?: boolean } = Readable.from([]);
  readonly stdout: Sink & OutStream = new Sink();
  readonly stderr: Sink & OutStream = new Sink();
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd = "/somewhere";
  isRoot = true;
  daemonCommand: [string, ...string[]] = ["false"];
  readonly exits: number[] = [];
  readonly #listeners = new Set<() => void>();

  constructor(env: Readonly<Record<string, string | undefined>> = {}, stdin?: string) {
    this.env = env;
    if (stdin !== undefined) {
      const pipe = new PassThrough();
      pipe.end(stdin);
      this.stdin = pipe;
    }
  }

  onInterrupt(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  exit(code: number): void {
    this.exits.push(code);
  }

  pressCtrlC(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  get listening(): boolean {
    return this.#listeners.size > 0;
  }
}

export interface Ran {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

/** Runs one command line to its end. */
export async function mwarp(io: FakeIo, ...argv: string[]): Promise<Ran> {
  const status = await run(argv, io);
  return { status, out: io.stdout.text, err: io.stderr.text };
}

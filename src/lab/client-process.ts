/**
 * A client of what runs in the lab: a process of its own in the lab's network namespace, so that what it measures is not disturbed
 * by, and does not disturb, the process that asks it. Its own side is client-serve.ts.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { MwarpError } from "../errors.js";
import { AnswerSchema } from "./client-messages.js";

export type Progress = (done: number) => void;

export interface ClientProgram {
  /** What the client is, for people: "the demo's client". */
  readonly what: string;
  /** The JavaScript file. */
  readonly file: string;
  readonly args: readonly string[];
  /** What the command line begins with: `insideNamespace(NAME)`. */
  readonly prefix: readonly string[];
  /** No answer takes longer, ms; a client that does not answer has hung. */
  readonly limitMs: number;
  /** Kills the client when it aborts. */
  readonly signal: AbortSignal;
}

interface Pending {
  resolve(result: unknown): void;
  reject(error: Error): void;
  progress: Progress;
}

const LAST_WORDS_BYTES = 2000;

/** `Request` is what the program takes. */
export class ClientProcess<Request> implements AsyncDisposable {
  private readonly child: ChildProcess;
  private readonly pending = new Map<number, Pending>();
  private readonly ended: Promise<void>;
  private failure: MwarpError | null = null;
  private nextId = 1;
  private lastWords = "";

  constructor(private readonly program: ClientProgram) {
    const { prefix, file, args, signal } = program;
    const [command, ...words] = [...prefix, process.execPath, file, ...args];
    const child = spawn(command, words, { stdio: ["pipe", "pipe", "pipe"] });
    this.child = child;
    createInterface({ input: child.stdout }).on("line", (line) => this.receive(line));
    child.stderr.on("data", (data: Buffer) => {
      this.lastWords = (this.lastWords + data.toString()).slice(-LAST_WORDS_BYTES);
    });
    // Writing to a client that is gone: its end is reported by "close".
    child.stdin.on("error", () => undefined);
    const kill = (): void => void child.kill("SIGKILL");
    signal.addEventListener("abort", kill, { once: true });
    this.ended = new Promise((resolve) => {
      const end = (reason: string): void => {
        signal.removeEventListener("abort", kill);
        this.fail(reason);
        resolve();
      };
      child.on("error", (error) => end(error.message));
      child.on("close", () => end(this.lastWords.trim() || "it ended"));
    });
  }

  /** @throws MWARP_E_INTERNAL with the client's words when it fails or ends, MWARP_E_TIMEOUT, MWARP_E_CANCELLED */
  async ask(request: Request, progress: Progress = () => undefined): Promise<unknown> {
    if (this.program.signal.aborted || this.failure !== null) throw this.gone();
    const { what, limitMs } = this.program;
    const id = this.nextId++;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise((resolve, reject) => {
        const late = (): void =>
          reject(new MwarpError("MWARP_E_TIMEOUT", `${what} did not answer in ${limitMs / 1000} s`));
        timer = setTimeout(late, limitMs);
        this.pending.set(id, { resolve, reject, progress });
        this.child.stdin?.write(`${JSON.stringify({ id, request })}\n`);
      });
    } finally {
      clearTimeout(timer);
      this.pending.delete(id);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.stdin?.end();
    this.child.kill("SIGTERM");
    await this.ended;
  }

  private receive(line: string): void {
    const parsed = AnswerSchema.safeParse(parseJson(line));
    if (!parsed.success) {
      this.fail(`it said: ${line.slice(0, LAST_WORDS_BYTES)}`);
      this.child.kill("SIGKILL");
      return;
    }
    const answer = parsed.data;
    const pending = this.pending.get(answer.id);
    if (answer.event === "progress") {
      pending?.progress(answer.done);
      return;
    }
    if (answer.event === "result") pending?.resolve(answer.result);
    else
      pending?.reject(new MwarpError("MWARP_E_INTERNAL", `${this.program.what} failed: ${answer.message}`));
  }

  private fail(reason: string): void {
    this.failure ??= new MwarpError("MWARP_E_INTERNAL", `${this.program.what} ended: ${reason}`);
    for (const pending of this.pending.values()) pending.reject(this.gone());
  }

  private gone(): MwarpError {
    if (this.program.signal.aborted || this.failure === null)
      return new MwarpError("MWARP_E_CANCELLED", "interrupted");
    return this.failure;
  }
}

/** Undefined for what is not JSON: a schema refuses it. */
function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** A connection to the control port of a benchmark's container (native/bench/control.c). It outlives the container's moves. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { MwarpError } from "../errors.js";
import { distFile } from "../paths.js";
import type { StallRecord } from "./records.js";
import { bucketsOf } from "./stall-histogram.js";

interface Waiter {
  resolve(line: string): void;
  reject(error: MwarpError): void;
}

/** What the busy thread saw (native/bench/stalls.c). */
export interface SeenStalls extends Omit<StallRecord["stalls"], "pages"> {
  readonly moved: boolean;
  readonly pages: number;
  /** Those of the pages that were accessed since the move. */
  readonly touched: number;
}

export interface Verdict {
  readonly pages: number;
  readonly wrong: number;
}

const stallsAnswer = /^stalls moved=([01]) passes=(\d+) pages=(\d+) touched=(\d+) window=(\d+) longest=(\d+)/;

const program = distFile("bench", "control-main.js");

export class Control implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #waiters: Waiter[] = [];
  #failure: MwarpError | null = null;
  #lastWords = "";

  private constructor(child: ChildProcess) {
    this.#child = child;
    createInterface({ input: child.stdout! }).on("line", (line) => this.#waiters.shift()?.resolve(line));
    child.stderr!.on("data", (data: Buffer) => {
      this.#lastWords = (this.#lastWords + data.toString()).slice(-2000);
    });
    // Writing to one that is gone: its end is reported by "close".
    child.stdin!.on("error", () => undefined);
    this.#ended = new Promise((resolve) => {
      child.on("error", (error) => this.#end(error.message, resolve));
      child.on("close", () => this.#end(this.#lastWords.trim() || "it ended", resolve));
    });
  }

  /**
   * Connects from inside the network namespace `netns` (a path; null: our own), as soon as the program listens.
   * @throws MWARP_E_TIMEOUT when that takes longer than `limitMs`
   */
  static async open(
    netns: string | null,
    host: string,
    port: number,
    limitMs: number,
    signal: AbortSignal,
  ): Promise<Control> {
    const enter = netns === null ? [] : ["nsenter", `--net=${netns}`];
    const [command, ...args] = [
      ...enter,
      process.execPath,
      program,
      host,
      String(port),
      String(limitMs),
    ] as const;
    const control = new Control(spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] }));
    try {
      await control.#next("a connection", limitMs + 5000, signal);
      return control;
    } catch (error) {
      await control[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Whether every page holds what it must. */
  async verify(limitMs: number, signal: AbortSignal): Promise<Verdict> {
    const [pages, wrong] = await this.#ask("verify", /^verified pages=(\d+) wrong=(\d+)/, limitMs, signal);
    return { pages, wrong };
  }

  /** Time of a pass over every page, ms, by the clock of the VM. */
  async touch(limitMs: number, signal: AbortSignal): Promise<number> {
    const [, ns] = await this.#ask("touch", /^touched pages=(\d+) ns=(\d+)/, limitMs, signal);
    return ns / 1e6;
  }

  /** Pages written since the program started. */
  async written(limitMs: number, signal: AbortSignal): Promise<number> {
    const [pages] = await this.#ask("rate", /^written pages=(\d+)/, limitMs, signal);
    return pages;
  }

  /** New pages, laid out as at the start. */
  async renew(limitMs: number, signal: AbortSignal): Promise<void> {
    await this.#ask("renew", /^renewed pages=(\d+)/, limitMs, signal);
  }

  /** From now on a thread is busy with the pages of the container's first process. */
  async load(limitMs: number, signal: AbortSignal): Promise<void> {
    await this.#ask("load", /^loaded pages=(\d+)/, limitMs, signal);
  }

  /** What that thread has seen so far. */
  async stalls(limitMs: number, signal: AbortSignal): Promise<SeenStalls> {
    const [line, ...numbers] = await this.#match("stalls", stallsAnswer, limitMs, signal);
    const [moved, passes, pages, touched, window, longest] = numbers.map(Number);
    return {
      ...{ moved: moved === 1, passes, pages, touched },
      ...{ window_ms: window / 1e6, longest_ms: longest / 1e6, histogram: bucketsOf(line) },
    };
  }

  /** Ends it. */
  async rest(limitMs: number, signal: AbortSignal): Promise<void> {
    await this.#ask("rest", /^resting/, limitMs, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin?.end();
    this.#child.kill("SIGTERM");
    await this.#ended;
  }

  async #ask(request: string, answer: RegExp, limitMs: number, signal: AbortSignal): Promise<number[]> {
    return (await this.#match(request, answer, limitMs, signal)).slice(1).map(Number);
  }

  async #match(request: string, answer: RegExp, limitMs: number, signal: AbortSignal): Promise<string[]> {
    const reply = this.#next(`an answer to ${request}`, limitMs, signal);
    this.#child.stdin?.write(`${request}\n`);
    const line = await reply;
    const match = answer.exec(line);
    if (match === null)
      throw new MwarpError("MWARP_E_PROTOCOL", `the benchmark's container answered ${request} with: ${line}`);
    return [line, ...match.slice(1)];
  }

  /** The next line. After a time limit the connection is of no use: answers would be taken for those of later requests. */
  #next(what: string, limitMs: number, signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    if (this.#failure !== null) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      const late = (): void =>
        this.#fail(
          new MwarpError("MWARP_E_TIMEOUT", `no sign of ${what} in ${Math.round(limitMs / 1000)} s`),
        );
      const cancelled = (): void => this.#fail(new MwarpError("MWARP_E_CANCELLED", "interrupted"));
      const timer = setTimeout(late, limitMs);
      signal.addEventListener("abort", cancelled, { once: true });
      const settled = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", cancelled);
      };
      this.#waiters.push({
        resolve: (line) => {
          settled();
          resolve(line);
        },
        reject: (error) => {
          settled();
          reject(error);
        },
      });
    });
  }

  #fail(error: MwarpError): void {
    this.#failure ??= error;
    this.#child.kill("SIGKILL");
    for (const waiter of this.#waiters.splice(0)) waiter.reject(this.#failure);
  }

  #end(reason: string, resolve: () => void): void {
    this.#fail(
      new MwarpError("MWARP_E_RUNTIME", `the connection to the benchmark's container ended: ${reason}`),
    );
    resolve();
  }
}

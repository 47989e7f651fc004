/** Who is attached to a container: a program, by the daemon's interface, or a person at a terminal, by the command line. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { PassThrough } from "node:stream";
import type { AttachRequest } from "../../src/protocol/api.js";
import { typedFrames, type Window, windowFrame } from "../../src/protocol/terminal.js";
import type { TestLab } from "./lab.js";
import { type Mwarp, projectRoot } from "./mwarp.js";
import { until } from "./wait.js";

const SAID_MS = 60_000;

export class Attached implements AsyncDisposable {
  /** Exit code of the container. */
  readonly ended: Promise<number>;
  /** The VMs it was in, in order. */
  readonly vms: string[] = [];
  readonly #frames = new PassThrough();
  readonly #stop = new AbortController();
  readonly #said: Buffer[] = [];

  constructor(
    private readonly lab: TestLab,
    private readonly name: string,
    from: AttachRequest["from"] = "start",
  ) {
    this.ended = lab.daemon.attach(
      name,
      { from },
      {
        frames: this.#frames,
        signal: this.#stop.signal,
        write: (_, data) => {
          this.#said.push(data);
        },
        attached: (vm) => {
          this.vms.push(vm);
        },
      },
    );
    // Who asks for the end sees it; who lets go does not.
    this.ended.catch(() => undefined);
  }

  get said(): string {
    return Buffer.concat(this.#said).toString("latin1");
  }

  type(text: string): void {
    for (const frame of typedFrames(Buffer.from(text, "latin1"))) this.#frames.write(frame);
  }

  window(window: Window): void {
    this.#frames.write(windowFrame(window));
  }

  /** What matches, once it has been said. */
  saying(pattern: RegExp): Promise<RegExpExecArray> {
    return until(`${this.name} to say ${pattern}`, async () => pattern.exec(this.said) ?? undefined, {
      timeoutMs: SAID_MS,
      intervalMs: 50,
    });
  }

  /** Sends a signal to the youngest process of the program. */
  async signal(program: string, signal: string): Promise<void> {
    const script = `kill -${signal} $(pidof ${program} | tr ' ' '\\n' | sort -n | tail -n 1)`;
    await this.lab.mwarp.ok(["exec", this.name, "--", "sh", "-c", script]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#frames.end();
    await this.ended.catch(() => undefined);
  }
}

/** A command line in a terminal of its own, which script(1) makes. */
export class Person {
  readonly exit: Promise<number | null>;
  readonly #child: ChildProcess;
  #said = "";

  /** @param before what the shell in the terminal does first */
  constructor(mwarp: Mwarp, before: string, args: readonly string[]) {
    const quoted = [path.join(projectRoot, "bin/mwarp"), ...args].map((arg) => `'${arg}'`).join(" ");
    this.#child = spawn("script", ["-qefc", `${before}; exec ${quoted}`, "/dev/null"], {
      env: { ...process.env, ...mwarp.env },
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#child.stdout?.on("data", (data: Buffer) => {
      this.#said += data.toString("latin1");
    });
    this.exit = once(this.#child, "close").then(([code]) => code as number | null);
  }

  get said(): string {
    return this.#said;
  }

  type(text: string): void {
    this.#child.stdin?.write(Buffer.from(text, "latin1"));
  }

  saying(pattern: RegExp): Promise<RegExpExecArray> {
    return until(`the terminal to show ${pattern}`, async () => pattern.exec(this.#said) ?? undefined, {
      timeoutMs: SAID_MS,
      intervalMs: 50,
    });
  }
}

/** The demo's side of its client process. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import * as z from "zod/mini";
import { MwarpError } from "../errors.js";
import { distFile } from "../paths.js";
import {
  type CheckResult,
  CheckResultSchema,
  ClientAnswerSchema,
  type ClientRequest,
  type TrafficReport,
  TrafficReportSchema,
} from "./client-protocol.js";

type RequestBody = ClientRequest extends infer R ? (R extends ClientRequest ? Omit<R, "id"> : never) : never;
type Progress = (done: number) => void;

interface Pending {
  resolve(result: unknown): void;
  reject(error: Error): void;
  progress: Progress;
}

const program = distFile("demo", "client-main.js");

export class DemoClient implements AsyncDisposable {
  private readonly pending = new Map<number, Pending>();
  private readonly ended: Promise<void>;
  private nextId = 1;
  private lastWords = "";

  private constructor(
    private readonly child: ChildProcess,
    private readonly signal: AbortSignal,
  ) {
    createInterface({ input: child.stdout! }).on("line", (line) => this.receive(line));
    child.stderr!.on("data", (data: Buffer) => {
      this.lastWords = (this.lastWords + data.toString()).slice(-2000);
    });
    // Writing to a client that is gone: its end is reported by "close".
    child.stdin!.on("error", () => undefined);
    this.ended = new Promise((resolve) => {
      child.on("error", (error) => this.end(error.message, resolve));
      child.on("close", () => this.end(this.lastWords.trim() || "it ended", resolve));
    });
    signal.addEventListener("abort", () => child.kill("SIGKILL"), { once: true });
  }

  /** Starts the client in the network namespace `netns` (a path), to talk to `host:port`. It is killed when `signal` aborts. */
  static start(netns: string, host: string, port: number, signal: AbortSignal): DemoClient {
    const argv = [`--net=${netns}`, process.execPath, program, host, String(port)];
    return new DemoClient(spawn("nsenter", argv, { stdio: ["pipe", "pipe", "pipe"] }), signal);
  }

  /** Waits until Redis takes commands. @throws MWARP_E_TIMEOUT */
  async ready(timeoutMs: number): Promise<void> {
    if ((await this.ask({ do: "ready", timeout_ms: timeoutMs })) !== true)
      throw new MwarpError("MWARP_E_TIMEOUT", "Redis does not answer");
  }

  async load(keys: number, progress: Progress): Promise<void> {
    await this.ask({ do: "load", keys }, progress);
  }

  async check(keys: number, progress: Progress): Promise<CheckResult> {
    return CheckResultSchema.parse(await this.ask({ do: "check", keys }, progress));
  }

  async startTraffic(): Promise<void> {
    await this.ask({ do: "traffic" });
  }

  /**
   * Waits until the traffic gets answers again. A request that met a frozen container is sent again by the client's TCP at doubling
   * intervals (RFC 6298), so that this takes up to as long again as the container stood still.
   * @throws MWARP_E_TIMEOUT
   */
  async flowing(timeoutMs: number): Promise<void> {
    if ((await this.ask({ do: "flowing", timeout_ms: timeoutMs })) !== true)
      throw new MwarpError("MWARP_E_TIMEOUT", "the client's open connection gets no answers any more");
  }

  /** What the traffic saw since the last mark. */
  async mark(): Promise<TrafficReport> {
    return TrafficReportSchema.parse(await this.ask({ do: "mark" }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.stdin?.end();
    this.child.kill("SIGTERM");
    await this.ended;
  }

  private ask(body: RequestBody, progress: Progress = () => undefined): Promise<unknown> {
    this.signal.throwIfAborted();
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject, progress });
      this.child.stdin?.write(`${JSON.stringify({ id, ...body })}\n`);
    });
  }

  private receive(line: string): void {
    const answer = z.parse(ClientAnswerSchema, JSON.parse(line));
    const pending = this.pending.get(answer.id);
    if (answer.event === "progress") {
      pending?.progress(answer.done);
      return;
    }
    this.pending.delete(answer.id);
    if (answer.event === "result") pending?.resolve(answer.result);
    else pending?.reject(new MwarpError("MWARP_E_INTERNAL", `the demo's client failed: ${answer.message}`));
  }

  private end(reason: string, resolve: () => void): void {
    const error = this.signal.aborted
      ? new MwarpError("MWARP_E_CANCELLED", "interrupted")
      : new MwarpError("MWARP_E_INTERNAL", `the demo's client ended: ${reason}`);
    for (const pending of this.pending.values()) pending.reject(error);
    this.pending.clear();
    resolve();
  }
}

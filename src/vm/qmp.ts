/**
 * A small QMP client. QEMU serves one client per QMP socket: a second one connects, but is never greeted, so the
 * greeting has a short time limit of its own.
 */
import { connect as connectSocket, type Socket } from "node:net";
import * as z from "zod/mini";
import { MwarpError } from "../errors.js";
import { type Deferred, deferred, limited } from "./deferred.js";

const GREETING_TIMEOUT_MS = 3000;
const COMMAND_TIMEOUT_MS = 10_000;

const MessageSchema = z.union([
  z.object({
    QMP: z.object({
      version: z.object({ qemu: z.object({ major: z.int(), minor: z.int(), micro: z.int() }) }),
    }),
  }),
  z.object({ event: z.string(), data: z.optional(z.record(z.string(), z.unknown())) }),
  z.object({ error: z.object({ class: z.string(), desc: z.string() }), id: z.optional(z.int()) }),
  z.object({ return: z.unknown(), id: z.optional(z.int()) }),
]);

export interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface QmpCallOptions {
  signal?: AbortSignal;
  /** Milliseconds; 10 s when not given. */
  timeoutMs?: number;
}

type State = "connecting" | "greeted" | "ready" | "closed";

/** One connection to a VM's QMP socket. Commands may overlap; QEMU answers them in order. */
export class QmpClient {
  readonly #socket: Socket;
  readonly #path: string;
  readonly #pending = new Map<number, Deferred<unknown>>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #greeting = deferred<void>();
  #state: State = "connecting";
  #received = "";
  #nextId = 1;
  #failure: MwarpError | null = null;
  #qemuVersion = "";

  private constructor(path: string, socket: Socket) {
    this.#path = path;
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#receive(text));
    socket.on("error", (error) => this.#fail(this.#unreachable(error.message, error)));
    socket.on("close", () => this.#fail(this.#unreachable("the VM closed the connection")));
  }

  /**
   * Connects and negotiates capabilities.
   * @throws MWARP_E_VM_UNREACHABLE when nobody listens, or when another client holds the socket.
   */
  static async open(path: string, options: QmpCallOptions = {}): Promise<QmpClient> {
    const client = new QmpClient(path, connectSocket({ path }));
    const limit = options.timeoutMs ?? GREETING_TIMEOUT_MS;
    try {
      await limited(client.#greeting.promise, {
        timeoutMs: limit,
        signal: options.signal,
        onTimeout: () =>
          client.#unreachable(
            "no greeting: another program is connected to this QMP socket, or the VMM hangs",
          ),
      });
      await client.#call("qmp_capabilities", {}, { ...options, timeoutMs: limit });
      client.#state = "ready";
      return client;
    } catch (error) {
      client.close();
      throw error;
    }
  }

  /** e.g. "7.2.22" */
  get qemuVersion(): string {
    return this.#qemuVersion;
  }

  get closed(): boolean {
    return this.#state === "closed";
  }

  /** Subscribes to events; the returned function ends that. */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Executes a QMP command and returns what QEMU returned.
   * @throws MWARP_E_TIMEOUT, MWARP_E_CANCELLED, MWARP_E_VM_UNREACHABLE; MWARP_E_PROTOCOL with QEMU's own words when it refuses.
   */
  async execute(
    command: string,
    args: Readonly<Record<string, unknown>> = {},
    options: QmpCallOptions = {},
  ): Promise<unknown> {
    if (this.#state !== "ready") {
      throw (
        this.#failure ?? new MwarpError("MWARP_E_INTERNAL", `QMP command ${command} in state ${this.#state}`)
      );
    }
    return this.#call(command, args, options);
  }

  /** Executes a line of QEMU's human monitor, e.g. `info mtree -f`, and returns its text. */
  async humanCommand(line: string, options: QmpCallOptions = {}): Promise<string> {
    const text = await this.execute("human-monitor-command", { "command-line": line }, options);
    if (typeof text !== "string")
      throw new MwarpError("MWARP_E_PROTOCOL", `QEMU answered "${line}" with no text`);
    return text;
  }

  close(): void {
    this.#fail(this.#unreachable("the connection was closed by mWarp"));
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #unreachable(what: string, cause?: unknown): MwarpError {
    return new MwarpError("MWARP_E_VM_UNREACHABLE", `QMP socket ${this.#path}: ${what}`, { cause });
  }

  async #call(
    command: string,
    args: Readonly<Record<string, unknown>>,
    options: QmpCallOptions,
  ): Promise<unknown> {
    const id = this.#nextId++;
    const answer = deferred<unknown>();
    this.#pending.set(id, answer);
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\r\n`);
    const timeoutMs = options.timeoutMs ?? COMMAND_TIMEOUT_MS;
    try {
      return await limited(answer.promise, {
        timeoutMs,
        signal: options.signal,
        onTimeout: () =>
          new MwarpError("MWARP_E_TIMEOUT", `QMP command ${command}: no answer in ${timeoutMs} ms`),
      });
    } finally {
      this.#pending.delete(id);
    }
  }

  #receive(text: string): void {
    this.#received += text;
    let end = this.#received.indexOf("\n");
    while (end >= 0) {
      const line = this.#received.slice(0, end).trim();
      this.#received = this.#received.slice(end + 1);
      if (line !== "") this.#handle(line);
      end = this.#received.indexOf("\n");
    }
  }

  #handle(line: string): void {
    let message: z.infer<typeof MessageSchema>;
    try {
      message = z.parse(MessageSchema, JSON.parse(line));
    } catch (error) {
      this.#fail(
        new MwarpError("MWARP_E_PROTOCOL", `not a QMP message: ${line.slice(0, 200)}`, { cause: error }),
      );
      return;
    }
    if ("QMP" in message) {
      const { major, minor, micro } = message.QMP.version.qemu;
      this.#qemuVersion = `${major}.${minor}.${micro}`;
      this.#state = "greeted";
      this.#greeting.resolve();
    } else if ("event" in message) {
      for (const listener of this.#listeners) listener({ name: message.event, data: message.data ?? {} });
    } else if (message.id !== undefined) {
      // No entry: its caller gave up waiting.
      const pending = this.#pending.get(message.id);
      if ("error" in message)
        pending?.reject(new MwarpError("MWARP_E_PROTOCOL", `QEMU: ${message.error.desc}`));
      else pending?.resolve(message.return);
    }
  }

  #fail(error: MwarpError): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#failure = error;
    this.#greeting.reject(error);
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
    this.#listeners.clear();
    this.#socket.destroy();
  }
}

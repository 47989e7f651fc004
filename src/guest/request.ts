/** One request under way: its streams in both directions, its end. */
import { type ErrorCode, errorCodes, MwarpError } from "../errors.js";
import { CHUNK_BYTES } from "../protocol/agent.js";
import { AgentErrorSchema } from "../protocol/agent-words.js";
import { checked } from "../protocol/checked.js";
import { type Frame, FrameKind } from "../protocol/frame.js";
import { ReceiveWindow, SendWindow } from "../protocol/window.js";
import { cutLine, cutLines } from "../protocol/words.js";
import type { Channel } from "./channel.js";

export type ChunkHandler = (data: Uint8Array, meta: { fd?: number }) => void | Promise<void>;

/** What an agent may call its failure. Whether a migration needs recovery the host alone knows. */
const isErrorCode = (code: string): code is ErrorCode =>
  code !== "MWARP_E_NEEDS_RECOVERY" && (errorCodes as readonly string[]).includes(code);

/** The agent's word for what went wrong, as an error of ours. */
export function agentError(method: string, json: unknown): MwarpError {
  const body = checked(AgentErrorSchema, json);
  if ("problem" in body) {
    return new MwarpError("MWARP_E_PROTOCOL", `the agent's error for ${method} has an unknown form`);
  }
  const { code, message, detail } = body.data;
  return new MwarpError(isErrorCode(code) ? code : "MWARP_E_INTERNAL", cutLine(message), {
    details: cutLines(detail),
  });
}

export class PendingRequest {
  readonly done: Promise<unknown>;
  #resolve!: (json: unknown) => void;
  #reject!: (error: Error) => void;
  #settled = false;
  /** The agent has said its last word; the chunks before it may still wait for their handler. */
  #answered = false;
  readonly #window = new SendWindow();
  readonly #received = new ReceiveWindow();
  /** Chunks are handled one after the other; the response waits for the last. */
  #handled: Promise<void> = Promise.resolve();
  readonly #channel: Channel;
  readonly #id: number;
  readonly #method: string;
  readonly #onChunk: ChunkHandler;

  constructor(channel: Channel, id: number, method: string, onChunk: ChunkHandler) {
    this.#channel = channel;
    this.#id = id;
    this.#method = method;
    this.#onChunk = onChunk;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // It may be rejected before the caller waits for it; who waits still sees the rejection.
    this.done.catch(() => undefined);
  }

  get settled(): boolean {
    return this.#settled;
  }

  receive(frame: Frame): void {
    if (this.#answered) return;
    switch (frame.kind) {
      case FrameKind.chunk:
        this.#queue(frame.payload, fdOf(frame.json));
        return;
      case FrameKind.credit:
        this.#window.grant(creditBytes(frame.json));
        return;
      case FrameKind.response:
        this.#answered = true;
        this.#handled.then(
          () => this.#finish(() => this.#resolve(frame.json)),
          () => undefined,
        );
        return;
      case FrameKind.error:
        this.#answered = true;
        this.fail(agentError(this.#method, frame.json));
        return;
      default:
        return;
    }
  }

  /** Ends the request without a word to the agent: the connection is gone, or the agent has answered. */
  fail(error: Error): void {
    this.#finish(() => this.#reject(error));
  }

  /** Ends the request here and asks the agent to stop it there. */
  abandon(error: Error): void {
    if (this.#settled) return;
    this.fail(error);
    if (!this.#channel.closed) void this.#channel.send(FrameKind.cancel, this.#id, {}).catch(() => undefined);
  }

  /** Sends what `up` yields within the window the agent grants, then `end`. */
  async sendAll(up: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const data of up) {
      for (let at = 0; at < data.length; at += CHUNK_BYTES) {
        const part = data.subarray(at, at + CHUNK_BYTES);
        await this.#window.take(part.length);
        if (this.#settled) return;
        await this.#channel.send(FrameKind.chunk, this.#id, {}, part);
      }
    }
    if (!this.#settled) await this.#channel.send(FrameKind.end, this.#id, {});
  }

  /** Chunks wait here for their handler, so an agent that sends more than it may ends its channel. */
  #queue(data: Uint8Array, meta: { fd?: number }): void {
    if (!this.#received.take(data.length)) {
      this.#channel.violated(`sent more for ${this.#method} than it may`);
      return;
    }
    this.#handled = this.#handled.then(() => this.#consume(data, meta));
    this.#handled.catch((error: Error) => this.abandon(error));
  }

  async #consume(data: Uint8Array, meta: { fd?: number }): Promise<void> {
    if (this.#settled) return;
    await this.#onChunk(data, meta);
    const bytes = this.#received.release(data.length);
    if (!this.#settled) await this.#channel.send(FrameKind.credit, this.#id, { bytes });
  }

  #finish(act: () => void): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#window.fail(new MwarpError("MWARP_E_CANCELLED", `${this.#method} has ended`));
    act();
  }
}

function fdOf(json: unknown): { fd?: number } {
  const fd = (json as { fd?: unknown } | null)?.fd;
  return typeof fd === "number" ? { fd } : {};
}

function creditBytes(json: unknown): number {
  const bytes = (json as { bytes?: unknown } | null)?.bytes;
  return typeof bytes === "number" && Number.isSafeInteger(bytes) && bytes > 0 ? bytes : 0;
}

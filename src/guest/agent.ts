/** The host's client of one guest agent: typed requests over one channel. */
import { MwarpError } from "../errors.js";
import {
  AGENT_PROTOCOL_VERSION,
  type AgentMethod,
  type AgentParams,
  type AgentResult,
  agentMethods,
} from "../protocol/agent.js";
import { type AgentEvent, AgentEventSchema } from "../protocol/agent-words.js";
import { checked } from "../protocol/checked.js";
import { type Frame, FrameKind } from "../protocol/frame.js";
import type { GuestInfo } from "../protocol/guest-info.js";
import { Channel, type ChannelBytes } from "./channel.js";
import { type ChunkHandler, PendingRequest } from "./request.js";

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** Limit for the whole request; DEFAULT_TIMEOUT_MS without it. */
  readonly timeoutMs?: number;
  /** Bytes for the agent; closed with `end` when the iterable ends. */
  readonly up?: AsyncIterable<Uint8Array>;
  /** Takes each chunk; the agent sends no more than one window ahead of it. */
  readonly onChunk?: ChunkHandler;
}

export interface ConnectOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

export const DEFAULT_TIMEOUT_MS = 60_000;
const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Connects, synchronises and says hello. `MWARP_E_AGENT_UNREACHABLE` when nothing answers in time: the agent does not
 * run, or another client holds the channel (the VMM's socket serves one at a time and lets the next wait).
 */
export async function connectAgent(socketPath: string, options: ConnectOptions = {}): Promise<GuestAgent> {
  const timeoutMs = options.timeoutMs ?? CONNECT_TIMEOUT_MS;
  const timer = AbortSignal.timeout(timeoutMs);
  const signal = options.signal ? AbortSignal.any([options.signal, timer]) : timer;
  const silence = () =>
    new MwarpError(
      "MWARP_E_AGENT_UNREACHABLE",
      `no answer at ${socketPath} in ${timeoutMs} ms: the agent does not run, or another client holds the channel`,
    );
  let channel: Channel | null = null;
  try {
    channel = await Channel.open(socketPath, signal);
    return await GuestAgent.greet(channel, signal);
  } catch (error) {
    channel?.close();
    if (timer.aborted && !options.signal?.aborted) throw silence();
    if (options.signal?.aborted) {
      throw new MwarpError("MWARP_E_CANCELLED", `connecting to ${socketPath} was cancelled`, {
        cause: error,
      });
    }
    throw error;
  }
}

const noChunks: ChunkHandler = () => undefined;

export class GuestAgent {
  readonly #channel: Channel;
  readonly #pending = new Map<number, PendingRequest>();
  readonly #listeners = new Set<(event: AgentEvent) => void>();
  readonly #closeListeners = new Set<(reason: MwarpError) => void>();
  #nextId = 1;
  #info!: GuestInfo;

  private constructor(channel: Channel) {
    this.#channel = channel;
    channel.onFrame = (frame) => this.#receive(frame);
    channel.onClose = (reason) => this.#lost(reason);
  }

  static async greet(channel: Channel, signal: AbortSignal): Promise<GuestAgent> {
    const agent = new GuestAgent(channel);
    agent.#info = await agent.call("hello", { protocol: AGENT_PROTOCOL_VERSION }, { signal });
    if (agent.#info.protocol !== AGENT_PROTOCOL_VERSION) {
      throw new MwarpError(
        "MWARP_E_PROTOCOL",
        `the agent speaks protocol ${agent.#info.protocol}, this side ${AGENT_PROTOCOL_VERSION}`,
      );
    }
    return agent;
  }

  /** What the agent said of its guest at connect. */
  get info(): GuestInfo {
    return this.#info;
  }

  /** Bytes that went through the channel so far, frames and markers included. */
  get channelBytes(): ChannelBytes {
    return this.#channel.bytes;
  }

  /** Why the connection ended, or null while it stands. */
  get closed(): MwarpError | null {
    return this.#channel.closed;
  }

  /**
   * One request. Rejects with what the agent said (its code and details), `MWARP_E_TIMEOUT`, `MWARP_E_CANCELLED` (by
   * `signal`; the agent is told), `MWARP_E_AGENT_UNREACHABLE` when the connection is lost, `MWARP_E_PROTOCOL`.
   */
  async call<M extends AgentMethod>(
    method: M,
    params: AgentParams<M>,
    options: CallOptions = {},
  ): Promise<AgentResult<M>> {
    const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const id = this.#nextId++;
    const request = new PendingRequest(this.#channel, id, method, options.onChunk ?? noChunks);
    const onAbort = () =>
      request.abandon(
        new MwarpError("MWARP_E_CANCELLED", `${method} was cancelled`, { cause: options.signal?.reason }),
      );
    const receivedBefore = this.#channel.bytes.received;
    let read = false;
    const timer = setTimeout(() => {
      const heard = options.up !== undefined || this.#channel.bytes.received !== receivedBefore;
      if (heard && read) {
        request.abandon(new MwarpError("MWARP_E_TIMEOUT", `${method} took longer than ${timeoutMs} ms`));
        return;
      }
      // Not a byte in all that time, in one direction: nobody is at the other end. The next caller connects anew.
      const what = read ? "said" : "read";
      request.abandon(
        new MwarpError(
          "MWARP_E_AGENT_UNREACHABLE",
          `the agent has ${what} nothing for ${timeoutMs} ms (${method})`,
        ),
      );
      this.#channel.close();
    }, timeoutMs);
    this.#pending.set(id, request);
    try {
      if (options.signal?.aborted) throw new MwarpError("MWARP_E_CANCELLED", `${method} was cancelled`);
      options.signal?.addEventListener("abort", onAbort);
      // Not awaited: an agent that reads nothing must not keep the caller from its time limit.
      this.#channel.send(FrameKind.request, id, { method, params }).then(
        () => {
          read = true;
        },
        (error: Error) => request.fail(error),
      );
      if (options.up) request.sendAll(options.up).catch((error: Error) => request.abandon(error));
      return this.#validate(method, await request.done);
    } finally {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", onAbort);
      this.#pending.delete(id);
    }
  }

  /** Events from the agent; answers with the way to stop listening. */
  onEvent(listener: (event: AgentEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Called once when the connection ends, whoever ends it. */
  onClose(listener: (reason: MwarpError) => void): () => void {
    this.#closeListeners.add(listener);
    return () => void this.#closeListeners.delete(listener);
  }

  close(): void {
    this.#channel.close();
  }

  #validate<M extends AgentMethod>(method: M, json: unknown): AgentResult<M> {
    const result = checked(agentMethods[method].result, json);
    if ("problem" in result) {
      throw new MwarpError("MWARP_E_PROTOCOL", `the agent's answer to ${method} has an unknown form`, {
        details: [result.problem],
      });
    }
    return result.data as AgentResult<M>;
  }

  #receive(frame: Frame): void {
    if (frame.kind === FrameKind.event) {
      const event = AgentEventSchema.safeParse(frame.json);
      if (event.success) for (const listener of this.#listeners) listener(event.data);
      return;
    }
    this.#pending.get(frame.id)?.receive(frame);
  }

  #lost(reason: MwarpError): void {
    for (const request of this.#pending.values()) request.fail(reason);
    for (const listener of this.#closeListeners) listener(reason);
  }
}

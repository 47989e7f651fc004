/**
 * What one host connection asks, frame by frame. A new SYNC ends the old connection: its requests are cancelled. What a
 * migration holds (a frozen cgroup, a hook that waits) is no request and goes on.
 */
import { MwarpError, toMwarpError } from "../errors.js";
import { type AgentMethod, agentMethods } from "../protocol/agent.js";
import { checked } from "../protocol/checked.js";
import {
  encodeFrame,
  encodeMarker,
  type Frame,
  FrameKind,
  FrameReader,
  SYNC,
  SYNC_ACK,
} from "../protocol/frame.js";
import { cutLine, cutLines } from "../protocol/words.js";
import { log } from "./log.js";
import type { Handlers, RequestContext } from "./methods.js";
import { DownStream, UpStream } from "./streams.js";

interface Request {
  readonly abort: AbortController;
  readonly up: UpStream;
  readonly down: DownStream;
}

const isMethod = (method: unknown): method is AgentMethod =>
  typeof method === "string" && Object.hasOwn(agentMethods, method);

export class Session {
  readonly #reader = new FrameReader(SYNC);
  readonly #requests = new Map<number, Request>();
  readonly #handlers: Handlers;
  readonly #write: (bytes: Uint8Array) => Promise<void>;
  #nonce = "";
  /** Counts connections, so that what an old one still has to say is dropped. */
  #epoch = 0;

  constructor(handlers: Handlers, write: (bytes: Uint8Array) => Promise<void>) {
    this.#handlers = handlers;
    this.#write = write;
  }

  receive(bytes: Uint8Array): void {
    for (const item of this.#reader.push(bytes)) {
      if (item.type === "sync") this.#synchronise(item.nonce);
      else this.#frame(item.frame);
    }
  }

  /** Sends an event, when anybody listens. */
  event(json: object): void {
    if (this.#reader.synced) void this.#send(this.#epoch, FrameKind.event, 0, json);
  }

  #synchronise(nonce: Uint8Array): void {
    const text = Buffer.from(nonce).toString("hex");
    if (text !== this.#nonce) {
      this.#nonce = text;
      this.#epoch++;
      for (const request of this.#requests.values()) {
        cancel(request, new MwarpError("MWARP_E_CANCELLED", "the host connected anew"));
      }
      this.#requests.clear();
    }
    void this.#write(encodeMarker(SYNC_ACK, nonce));
  }

  #frame(frame: Frame): void {
    const request = this.#requests.get(frame.id);
    switch (frame.kind) {
      case FrameKind.request:
        // An id ends with exactly one answer, so the request that has it keeps it.
        if (request) log("warn", `a second request has the id ${frame.id} of one under way: not served`);
        else this.#begin(frame.id, frame.json);
        return;
      case FrameKind.chunk:
        if (request) take(request, frame.payload);
        return;
      case FrameKind.end:
        request?.up.end();
        return;
      case FrameKind.credit:
        request?.down.window.grant(creditOf(frame.json));
        return;
      case FrameKind.cancel:
        if (request) cancel(request, new MwarpError("MWARP_E_CANCELLED", "cancelled by the host"));
        return;
      default:
        return;
    }
  }

  #begin(id: number, json: unknown): void {
    const epoch = this.#epoch;
    const send = (kind: FrameKind, body: unknown, payload?: Uint8Array) =>
      this.#send(epoch, kind, id, body, payload);
    const request: Request = {
      abort: new AbortController(),
      up: new UpStream(send),
      down: new DownStream(send),
    };
    this.#requests.set(id, request);
    const { method, params } = (json ?? {}) as { method?: unknown; params?: unknown };
    const name = typeof method === "string" ? cutLine(method) : "a request without a method";
    const start = performance.now();
    const context = { signal: request.abort.signal, up: request.up, down: request.down };
    this.#answer(name, this.#dispatch(method, params, context), send)
      .catch((error: unknown) => log("error", `${name}: no answer could be sent: ${String(error)}`))
      .finally(() => {
        log("debug", `${name} took ${(performance.now() - start).toFixed(1)} ms`);
        if (this.#requests.get(id) === request) this.#requests.delete(id);
        // Whoever still waits on one of its streams waits in vain.
        endStreams(request, new MwarpError("MWARP_E_CANCELLED", `${name} has ended`));
      });
  }

  async #answer(
    name: string,
    result: Promise<unknown>,
    send: (kind: FrameKind, body: unknown) => Promise<void>,
  ): Promise<void> {
    try {
      // In here, as it may not fit a frame: the host must not wait for an answer that never comes.
      await send(FrameKind.response, await result);
    } catch (error) {
      const { code, message, details } = toMwarpError(error);
      const stack = code === "MWARP_E_INTERNAL" && error instanceof Error ? `\n${error.stack}` : "";
      log("warn", `${name}: ${code} ${message}${stack}`);
      await send(FrameKind.error, { code, message: cutLine(message), detail: cutLines(details) });
    }
  }

  async #dispatch(method: unknown, params: unknown, context: RequestContext): Promise<unknown> {
    if (!isMethod(method)) {
      throw new MwarpError(
        "MWARP_E_PROTOCOL",
        `unknown method ${typeof method === "string" ? method : typeof method}`,
      );
    }
    const parsed = checked(agentMethods[method].params, params);
    if ("problem" in parsed) {
      throw new MwarpError("MWARP_E_PROTOCOL", `wrong parameters for ${method}`, {
        details: [parsed.problem],
      });
    }
    const handler = this.#handlers[method] as (params: unknown, context: RequestContext) => Promise<unknown>;
    return handler(parsed.data, context);
  }

  async #send(
    epoch: number,
    kind: FrameKind,
    id: number,
    json: unknown,
    payload?: Uint8Array,
  ): Promise<void> {
    if (epoch !== this.#epoch) return;
    await this.#write(encodeFrame(kind, id, json, payload));
  }
}

/** A host that sends more than it may ends the request, not the agent. */
function take(request: Request, data: Uint8Array): void {
  try {
    request.up.push(data);
  } catch (error) {
    cancel(request, toMwarpError(error));
  }
}

function cancel(request: Request, reason: MwarpError): void {
  request.abort.abort(reason);
  endStreams(request, reason);
}

function endStreams(request: Request, reason: MwarpError): void {
  request.up.fail(reason);
  request.down.window.fail(reason);
}

function creditOf(json: unknown): number {
  const bytes = (json as { bytes?: unknown } | null)?.bytes;
  return typeof bytes === "number" && Number.isSafeInteger(bytes) && bytes > 0 ? bytes : 0;
}

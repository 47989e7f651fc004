/** The two streams of one request, as its handler sees them. */

import { MwarpError } from "../errors.js";
import { CHUNK_BYTES } from "../protocol/agent.js";
import { FrameKind } from "../protocol/frame.js";
import { ReceiveWindow, SendWindow } from "../protocol/window.js";
import type { ByteSource } from "./helper.js";

type Send = (kind: FrameKind, json: unknown, payload?: Uint8Array) => Promise<void>;

/** Bytes from the host, in order; each piece taken gives the host credit for as much. */
export class UpStream implements ByteSource, AsyncIterable<Uint8Array> {
  #chunks: Uint8Array[] = [];
  #ended = false;
  #failure: Error | null = null;
  #wake: (() => void) | null = null;
  readonly #window = new ReceiveWindow();
  /** Bytes of the first chunk that were taken already: credit is for whole chunks. */
  #taken = 0;
  readonly #send: Send;

  constructor(send: Send) {
    this.#send = send;
  }

  /** Throws MWARP_E_PROTOCOL when the host had no credit for it: what waits here is memory of the guest. */
  push(data: Uint8Array): void {
    if (this.#ended || this.#failure) return;
    if (!this.#window.take(data.length)) {
      throw new MwarpError("MWARP_E_PROTOCOL", "the host sent more than it may");
    }
    this.#chunks.push(data);
    this.#wake?.();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  fail(error: Error): void {
    this.#failure ??= error;
    this.#chunks = [];
    this.#wake?.();
  }

  /** Next bytes, at most `limit`; null at the end. */
  async next(limit = Number.POSITIVE_INFINITY): Promise<Uint8Array | null> {
    for (;;) {
      if (this.#failure) throw this.#failure;
      const first = this.#chunks[0];
      if (first) {
        const data = first.subarray(this.#taken, this.#taken + limit);
        this.#taken += data.length;
        if (this.#taken === first.length) {
          this.#chunks.shift();
          this.#taken = 0;
          void this.#send(FrameKind.credit, { bytes: this.#window.release(first.length) });
        }
        if (data.length > 0) return data;
        continue;
      }
      if (this.#ended) return null;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async take(limit: number): Promise<Uint8Array> {
    const data = await this.next(limit);
    if (!data) throw new MwarpError("MWARP_E_PROTOCOL", "the stream ended early");
    return data;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (let data = await this.next(); data; data = await this.next()) yield data;
  }
}

/** So many bytes, in one piece. @throws MWARP_E_PROTOCOL when the stream ends before */
export async function takeAll(up: ByteSource, bytes: number): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for (let left = bytes; left > 0; ) {
    const data = await up.take(left);
    pieces.push(data);
    left -= data.length;
  }
  return Buffer.concat(pieces);
}

/** Bytes for the host; `write` waits for credit. */
export class DownStream {
  readonly window = new SendWindow();
  #sent = 0;
  readonly #send: Send;

  constructor(send: Send) {
    this.#send = send;
  }

  get sentBytes(): number {
    return this.#sent;
  }

  async write(data: Uint8Array, meta: { fd?: number } = {}): Promise<void> {
    for (let at = 0; at < data.length; at += CHUNK_BYTES) {
      const part = data.subarray(at, at + CHUNK_BYTES);
      await this.window.take(part.length);
      this.#sent += part.length;
      await this.#send(FrameKind.chunk, meta, part);
    }
  }
}

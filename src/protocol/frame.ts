/** The byte stream of the agent channel: markers, frames and their reader. The rules are in agent.ts. */
import { createHash } from "node:crypto";
import { MwarpError } from "../errors.js";
import { MAX_FRAME_BYTES } from "./agent.js";

export const MARKER_BYTES = 16;
export const NONCE_BYTES = 16;

const marker = (name: string): Uint8Array =>
  createHash("sha256").update(`mwarp agent channel ${name}`).digest().subarray(0, MARKER_BYTES);

/** Computed, so that no file that travels through the channel contains them by chance. */
export const SYNC: Uint8Array = marker("sync");
export const SYNC_ACK: Uint8Array = marker("sync-ack");

export const FrameKind = {
  request: 1,
  response: 2,
  error: 3,
  chunk: 4,
  end: 5,
  cancel: 6,
  event: 7,
  credit: 8,
} as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

export interface Frame {
  readonly kind: FrameKind;
  readonly id: number;
  readonly json: unknown;
  readonly payload: Uint8Array;
}

export type ReaderItem =
  | { readonly type: "sync"; readonly nonce: Uint8Array }
  | { readonly type: "frame"; readonly frame: Frame };

const LENGTH_BYTES = 4;
/** Kind, id and JSON length: the part of the header that the frame's own length counts. */
const HEADER_BYTES = 9;
const kinds = new Set<number>(Object.values(FrameKind));
const noBytes = new Uint8Array(0);

/** A frame as bytes. Throws `MWARP_E_PROTOCOL` for one over MAX_FRAME_BYTES. */
export function encodeFrame(
  kind: FrameKind,
  id: number,
  json: unknown,
  payload: Uint8Array = noBytes,
): Uint8Array {
  const text = Buffer.from(JSON.stringify(json), "utf8");
  const length = HEADER_BYTES + text.length + payload.length;
  if (length > MAX_FRAME_BYTES) {
    throw new MwarpError(
      "MWARP_E_PROTOCOL",
      `a message of ${length} bytes is over the limit of ${MAX_FRAME_BYTES}`,
    );
  }
  const bytes = Buffer.allocUnsafe(LENGTH_BYTES + length);
  bytes.writeUInt32LE(length, 0);
  bytes.writeUInt8(kind, 4);
  bytes.writeUInt32LE(id, 5);
  bytes.writeUInt32LE(text.length, 9);
  text.copy(bytes, LENGTH_BYTES + HEADER_BYTES);
  bytes.set(payload, LENGTH_BYTES + HEADER_BYTES + text.length);
  return bytes;
}

/** A marker with its nonce, as it stands between frames. */
export function encodeMarker(which: Uint8Array, nonce: Uint8Array): Uint8Array {
  return Buffer.concat([which, nonce]);
}

/**
 * Takes a byte stream apart. Frames count only after the first marker; a later marker drops what was unfinished, since
 * it means that the other side has started anew. Bytes that are no frame make it hunt for the next marker.
 */
export class FrameReader {
  #buffer = Buffer.alloc(64 * 1024);
  #start = 0;
  #end = 0;
  /** Up to here no marker starts. */
  #searched = 0;
  #synced = false;
  readonly #marker: Buffer;

  /** `which` is SYNC in the agent and SYNC_ACK on the host. */
  constructor(which: Uint8Array) {
    this.#marker = Buffer.from(which);
  }

  /** True between a marker and the first bytes that are no frame. */
  get synced(): boolean {
    return this.#synced;
  }

  /** Everything that `bytes` completes, in order. Payloads are copies: they stay valid. */
  push(bytes: Uint8Array): ReaderItem[] {
    this.#append(bytes);
    const items: ReaderItem[] = [];
    for (;;) {
      const at = this.#findMarker();
      const limit = at < 0 ? this.#end : at;
      this.#takeFrames(limit, items);
      if (at < 0) break;
      this.#start = at;
      if (this.#end - at < MARKER_BYTES + NONCE_BYTES) {
        this.#searched = at;
        return items;
      }
      const nonce = new Uint8Array(this.#buffer.subarray(at + MARKER_BYTES, at + MARKER_BYTES + NONCE_BYTES));
      items.push({ type: "sync", nonce });
      this.#synced = true;
      this.#start = at + MARKER_BYTES + NONCE_BYTES;
      this.#searched = this.#start;
    }
    // A marker may still begin in the last bytes.
    this.#searched = Math.max(this.#start, this.#end - (MARKER_BYTES - 1));
    if (!this.#synced) this.#start = this.#searched;
    return items;
  }

  #findMarker(): number {
    return this.#buffer.subarray(0, this.#end).indexOf(this.#marker, this.#searched);
  }

  #takeFrames(limit: number, items: ReaderItem[]): void {
    while (this.#synced && limit - this.#start >= LENGTH_BYTES) {
      const length = this.#buffer.readUInt32LE(this.#start);
      if (length < HEADER_BYTES || length > MAX_FRAME_BYTES) {
        this.#synced = false;
        return;
      }
      if (limit - this.#start < LENGTH_BYTES + length) return;
      const frame = this.#decode(this.#start + LENGTH_BYTES, length);
      if (!frame) {
        this.#synced = false;
        return;
      }
      items.push({ type: "frame", frame });
      this.#start += LENGTH_BYTES + length;
    }
  }

  #decode(at: number, length: number): Frame | null {
    const kind = this.#buffer.readUInt8(at);
    const jsonBytes = this.#buffer.readUInt32LE(at + 5);
    if (!kinds.has(kind) || jsonBytes > length - HEADER_BYTES) return null;
    const text = this.#buffer.toString("utf8", at + HEADER_BYTES, at + HEADER_BYTES + jsonBytes);
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      return null;
    }
    const payload = new Uint8Array(this.#buffer.subarray(at + HEADER_BYTES + jsonBytes, at + length));
    return { kind: kind as FrameKind, id: this.#buffer.readUInt32LE(at + 1), json, payload };
  }

  #append(bytes: Uint8Array): void {
    if (this.#end + bytes.length > this.#buffer.length) {
      const used = this.#end - this.#start;
      const target =
        used + bytes.length > this.#buffer.length ? Buffer.alloc(2 * (used + bytes.length)) : this.#buffer;
      this.#buffer.copy(target, 0, this.#start, this.#end);
      this.#searched -= this.#start;
      this.#buffer = target;
      this.#start = 0;
      this.#end = used;
    }
    this.#buffer.set(bytes, this.#end);
    this.#end += bytes.length;
  }
}

/** Moving byte streams between two agents, through the host. */
import { MwarpError } from "../errors.js";
import { CHUNK_BYTES } from "../protocol/agent.js";

/** Collects what `onChunk` delivers, up to a limit: an agent that never ends must not fill the host's memory. */
export class ChunkCollector {
  readonly #parts: Uint8Array[] = [];
  readonly #limit: number;
  #bytes = 0;

  /** @param limit bytes; a delivery that exceeds it fails with MWARP_E_PROTOCOL */
  constructor(limit: number) {
    this.#limit = limit;
  }

  readonly onChunk = (data: Uint8Array): void => {
    if (this.#bytes + data.byteLength > this.#limit)
      throw new MwarpError("MWARP_E_PROTOCOL", `an agent sends more than the ${this.#limit} bytes it may`);
    // The channel's buffer is reused after the callback returns.
    this.#parts.push(Uint8Array.from(data));
    this.#bytes += data.byteLength;
  };

  get bytes(): number {
    return this.#bytes;
  }

  take(): Uint8Array {
    const all = new Uint8Array(this.#bytes);
    let offset = 0;
    for (const part of this.#parts) {
      all.set(part, offset);
      offset += part.byteLength;
    }
    return all;
  }
}

/** Splits buffers into frames of the channel's chunk size, without copying. */
export async function* inChunks(buffers: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for (const buffer of buffers) {
    for (let offset = 0; offset < buffer.byteLength; offset += CHUNK_BYTES) {
      yield buffer.subarray(offset, Math.min(offset + CHUNK_BYTES, buffer.byteLength));
    }
  }
}

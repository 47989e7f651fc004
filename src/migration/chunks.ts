/** Moving byte streams between two agents, through the host. */
import { MwarpError } from "../errors.js";
import { CHUNK_BYTES } from "../protocol/agent.js";

const FIRST_BYTES = 1024 * 1024;

/**
 * Collects what `onChunk` delivers, up to a limit: an agent that never ends must not fill the host's memory. In one buffer that
 * doubles: one for each chunk would let an agent that sends single bytes take a hundred times the limit.
 */
export class ChunkCollector {
  readonly #limit: number;
  #buffer = new Uint8Array(0);
  #bytes = 0;

  /** @param limit bytes; a delivery that exceeds it fails with MWARP_E_PROTOCOL */
  constructor(limit: number) {
    this.#limit = limit;
  }

  readonly onChunk = (data: Uint8Array): void => {
    const end = this.#bytes + data.byteLength;
    if (end > this.#limit)
      throw new MwarpError("MWARP_E_PROTOCOL", `an agent sends more than the ${this.#limit} bytes it may`);
    if (end > this.#buffer.length) this.#grow(end);
    this.#buffer.set(data, this.#bytes);
    this.#bytes = end;
  };

  get bytes(): number {
    return this.#bytes;
  }

  /** What has come, without a copy: good until more comes. */
  take(): Uint8Array {
    return this.#buffer.subarray(0, this.#bytes);
  }

  #grow(needed: number): void {
    const size = Math.min(this.#limit, Math.max(needed, this.#buffer.length * 2, FIRST_BYTES));
    const larger = new Uint8Array(size);
    larger.set(this.#buffer.subarray(0, this.#bytes));
    this.#buffer = larger;
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

/** A request body that starts with one JSON line and goes on as raw bytes (exec: the request, then stdin). */
import { MwarpError } from "../errors.js";

/** Longest head line taken, bytes: argv and environment. */
const MAX_HEAD_BYTES = 1024 * 1024;

export interface HeadedBody {
  /** The first line, without its newline. */
  readonly head: string;
  /** What follows it, as it arrives. */
  readonly rest: AsyncIterable<Uint8Array>;
}

/** @throws MWARP_E_USAGE when no line ends within the limit */
export async function readHead(body: ReadableStream<Uint8Array> | null): Promise<HeadedBody> {
  if (body === null) throw new MwarpError("MWARP_E_USAGE", "the request has no body");
  const reader = body.getReader();
  let held = Buffer.alloc(0);
  while (true) {
    const newline = held.indexOf(10);
    if (newline >= 0)
      return {
        head: held.toString("utf8", 0, newline),
        rest: rest(reader, held.subarray(newline + 1)),
      };
    if (held.length > MAX_HEAD_BYTES) throw new MwarpError("MWARP_E_USAGE", "the request line is too long");
    const { done, value } = await reader.read();
    if (done) throw new MwarpError("MWARP_E_USAGE", "the request ended within its first line");
    held = Buffer.concat([held, value]);
  }
}

async function* rest(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  first: Uint8Array,
): AsyncGenerator<Uint8Array, void> {
  if (first.length > 0) yield first;
  while (true) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

/** Newline-delimited JSON over byte streams: how the daemon's streams travel. */

/** Longest line taken, bytes: a stream that sends no newline must not fill memory. */
export const MAX_LINE_BYTES = 8 * 1024 * 1024;

export const encodeLine = (value: unknown): Buffer => Buffer.from(`${JSON.stringify(value)}\n`);

/**
 * The parsed lines of a byte stream, in order; empty lines are skipped, a last line without newline counts.
 * @throws SyntaxError on a line that is not JSON, RangeError on one longer than MAX_LINE_BYTES.
 */
export async function* decodeLines(source: AsyncIterable<Uint8Array>): AsyncGenerator<unknown, void> {
  for await (const line of splitLines(source)) {
    if (line.length > 0) yield JSON.parse(line.toString("utf8"));
  }
}

/** Lines of a byte stream, without their newline. A last line without newline is yielded when it is not empty. */
export async function* splitLines(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer, void> {
  /** The beginning of a line that has not ended yet. */
  let parts: Buffer[] = [];
  let held = 0;
  for await (const chunk of source) {
    let rest = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    for (let at = rest.indexOf(10); at >= 0; at = rest.indexOf(10)) {
      parts.push(rest.subarray(0, at));
      yield parts.length === 1 ? parts[0]! : Buffer.concat(parts);
      parts = [];
      held = 0;
      rest = rest.subarray(at + 1);
    }
    held += rest.length;
    if (held > MAX_LINE_BYTES) throw new RangeError(`a line is longer than ${MAX_LINE_BYTES} bytes`);
    if (rest.length > 0) keep(parts, rest);
  }
  if (parts.length > 0) yield Buffer.concat(parts);
}

/**
 * Adds a copy of `bytes`, joined with the parts before it that are no larger. So there are few parts: a buffer for each
 * byte that comes by itself would take a hundred times the memory.
 */
function keep(parts: Buffer[], bytes: Buffer): void {
  let size = bytes.length;
  let first = parts.length;
  while (first > 0 && parts[first - 1]!.length <= size) size += parts[--first]!.length;
  parts.push(Buffer.concat([...parts.splice(first), bytes]));
}

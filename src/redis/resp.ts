/** The Redis protocol (RESP 2), as much of it as the clients here speak: commands out, replies in. */

export type Reply = string | number | Buffer | null | RedisError | Reply[];

/** An error reply. It is a value, not thrown by the parser: in a pipeline the other replies still count. */
export class RedisError extends Error {
  override readonly name = "RedisError";
}

/** One command as RESP bytes: an array of bulk strings. */
export function encodeCommand(args: readonly (string | Buffer)[]): Buffer {
  const parts: Buffer[] = [Buffer.from(`*${args.length}\r\n`)];
  for (const arg of args) {
    const bytes = typeof arg === "string" ? Buffer.from(arg) : arg;
    parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from("\r\n"));
  }
  return Buffer.concat(parts);
}

/** Takes bytes as they come from the socket and gives whole replies, in order. */
export class ReplyParser {
  private chunks: Buffer[] = [];
  private held = 0;
  /** Bytes that must be there before the next try is worth it: a large reply is not parsed from its start for each packet. */
  private wanted = 1;

  push(chunk: Buffer): Reply[] {
    this.chunks.push(chunk);
    this.held += chunk.length;
    if (this.held < this.wanted) return [];
    const data = this.chunks.length === 1 ? this.chunks[0] : Buffer.concat(this.chunks);
    const replies: Reply[] = [];
    let at = 0;
    for (;;) {
      const parsed = parse(data, at);
      if (typeof parsed === "number") {
        this.wanted = parsed - at;
        break;
      }
      replies.push(parsed.reply);
      at = parsed.next;
    }
    this.chunks = at === data.length ? [] : [data.subarray(at)];
    this.held = data.length - at;
    return replies;
  }
}

interface Parsed {
  readonly reply: Reply;
  readonly next: number;
}

/** The reply at `at`, or, when it is not whole, the least offset at which its end can be known. */
function parse(data: Buffer, at: number): Parsed | number {
  const lineEnd = data.indexOf("\r\n", at);
  if (lineEnd < 0) return data.length + 1;
  const line = data.toString("latin1", at + 1, lineEnd);
  const next = lineEnd + 2;
  switch (data[at]) {
    case 0x2b: // +
      return { reply: line, next };
    case 0x2d: // -
      return { reply: new RedisError(line), next };
    case 0x3a: // :
      return { reply: Number(line), next };
    case 0x24: {
      // $
      const length = Number(line);
      if (length < 0) return { reply: null, next };
      const end = next + length;
      return data.length < end + 2 ? end + 2 : { reply: data.subarray(next, end), next: end + 2 };
    }
    case 0x2a:
      return parseArray(data, next, Number(line));
    default:
      throw new RedisError(`not a Redis reply: byte ${data[at]}`);
  }
}

function parseArray(data: Buffer, at: number, length: number): Parsed | number {
  if (length < 0) return { reply: null, next: at };
  const items: Reply[] = [];
  let next = at;
  while (items.length < length) {
    const parsed = parse(data, next);
    if (typeof parsed === "number") return parsed;
    items.push(parsed.reply);
    next = parsed.next;
  }
  return { reply: items, next };
}

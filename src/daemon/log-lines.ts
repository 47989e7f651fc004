/** A container's log as its shim writes it: CRI lines, each with time, stream, tag and text. */
import type { LogEntry } from "../protocol/api.js";

/** A line that is longer is shown in pieces: a program that never ends one must not fill memory. */
const MAX_TEXT_BYTES = 1024 * 1024;

const LINE = /^(\S+) (stdout|stderr) ([FP])(?: |$)/;

interface Begun {
  readonly time: string;
  readonly parts: Buffer[];
  bytes: number;
}

/**
 * Lines of the log as the container wrote them. What is tagged P goes on in the next line of the same stream: a line that was longer
 * than the shim's buffer, or that was not finished when the container moved. What is not in the format is shown whole.
 */
export async function* readLogLines(lines: AsyncIterable<Buffer>): AsyncGenerator<LogEntry, void> {
  const begun = new Map<LogEntry["stream"], Begun>();
  for await (const line of lines) {
    const match = LINE.exec(line.toString("latin1"));
    if (match === null) {
      yield { time: "", stream: "stdout", text: line.toString("utf8") };
      continue;
    }
    const [head, time = "", name, tag] = match;
    const stream = name === "stderr" ? "stderr" : "stdout";
    const whole = begun.get(stream) ?? { time, parts: [], bytes: 0 };
    const text = line.subarray(head.length);
    whole.parts.push(text);
    whole.bytes += text.length;
    if (tag === "P" && whole.bytes < MAX_TEXT_BYTES) {
      begun.set(stream, whole);
      continue;
    }
    begun.delete(stream);
    yield entryOf(stream, whole);
  }
  for (const [stream, whole] of begun) yield entryOf(stream, whole);
}

/** Joined before they are decoded: a character may have been cut. */
const entryOf = (stream: LogEntry["stream"], { time, parts }: Begun): LogEntry => ({
  time,
  stream,
  text: Buffer.concat(parts).toString("utf8"),
});

/** A container's log, turned back into the bytes that it wrote, from wherever one begins to read; the lines are as log-lines.ts says. */

const LINE = /^(\S+) (stdout|stderr) ([FP])(?: |$)/;
/** A line of the shim is much shorter. */
const MAX_LINE_BYTES = 1024 * 1024;

export interface Said {
  readonly fd: 1 | 2;
  readonly bytes: Buffer;
}

export class AttachedLog {
  #position: number;
  #begun: Buffer = Buffer.alloc(0);

  /** @param position byte of the log that the first one pushed has */
  constructor(position: number) {
    this.#position = position;
  }

  /** Where to go on reading: behind the last whole line. */
  get position(): number {
    return this.#position;
  }

  /** What the lines say that `data` completes. @throws RangeError for one that never ends */
  push(data: Uint8Array): Said[] {
    let rest = Buffer.concat([this.#begun, data]);
    const said: Said[] = [];
    for (let at = rest.indexOf(10); at >= 0; at = rest.indexOf(10)) {
      said.push(sayingOf(rest.subarray(0, at)));
      this.#position += at + 1;
      rest = rest.subarray(at + 1);
    }
    if (rest.length > MAX_LINE_BYTES) throw new RangeError("a line of the log is too long");
    this.#begun = Buffer.from(rest);
    return said;
  }
}

function sayingOf(line: Buffer): Said {
  const match = LINE.exec(line.toString("latin1"));
  const [head = "", , stream, tag] = match ?? [];
  const text = line.subarray(head.length);
  const end = tag === "P" ? [] : [Buffer.from("\n")];
  return { fd: stream === "stderr" ? 2 : 1, bytes: Buffer.concat([text, ...end]) };
}

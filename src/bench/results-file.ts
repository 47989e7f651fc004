/** The file of a run: a record a line, on disk before the next measurement begins. */
import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { MwarpError } from "../errors.js";
import { type BenchRecord, BenchRecordSchema } from "./records.js";

const NEWLINE = 10;

export interface ReadResults {
  readonly records: readonly BenchRecord[];
  /** Bytes of the whole lines; what follows them is a line that was cut off while it was written. */
  readonly bytes: number;
}

/**
 * Reads a results file. A last line without its end is left out: the program or the machine stopped in the middle of it.
 * @throws MWARP_E_USAGE when the file cannot be read, or a whole line is no record
 */
export function readResults(file: string): ReadResults {
  let content: Buffer;
  try {
    content = readFileSync(file);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new MwarpError("MWARP_E_USAGE", `${file} cannot be read: ${reason}`, { cause });
  }
  const bytes = content.lastIndexOf(NEWLINE) + 1;
  const lines = content.subarray(0, bytes).toString("utf8").split("\n").slice(0, -1);
  return { records: lines.map((line, index) => parseLine(file, line, index + 1)), bytes };
}

function parseLine(file: string, line: string, number: number): BenchRecord {
  try {
    return BenchRecordSchema.parse(JSON.parse(line));
  } catch (cause) {
    throw new MwarpError("MWARP_E_USAGE", `${file}: line ${number} is no record of mwarp bench`, {
      hint: "The file is of another version, or was changed by hand.",
      cause,
    });
  }
}

/** @throws MWARP_E_USAGE when there is a file of this name already */
export function requireNew(path: string): void {
  if (!existsSync(path)) return;
  throw new MwarpError("MWARP_E_USAGE", `${path} exists already`, {
    hint: `To go on with that run: mwarp bench --resume ${path}`,
  });
}

export class ResultsFile implements Disposable {
  readonly path: string;
  readonly #fd: number;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  /** @throws MWARP_E_USAGE when there is a file of this name already */
  static create(path: string): ResultsFile {
    requireNew(path);
    mkdirSync(dirname(path), { recursive: true });
    return new ResultsFile(path, openSync(path, "ax"));
  }

  /** Opens a file to go on with it; a line that was cut off goes. */
  static goOn(path: string, { bytes }: ReadResults): ResultsFile {
    const fd = openSync(path, "r+");
    ftruncateSync(fd, bytes);
    closeSync(fd);
    return new ResultsFile(path, openSync(path, "a"));
  }

  /** Returns once the records are on disk. */
  append(...records: readonly BenchRecord[]): void {
    const text = records.map((record) => `${JSON.stringify(record)}\n`).join("");
    const bytes = Buffer.from(text);
    for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    fsyncSync(this.#fd);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

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
import { basename, dirname } from "node:path";
import * as z from "zod/mini";
import { MwarpError } from "../errors.js";
import { type BenchRecord, BenchRecordSchema, RECORD_VERSION } from "./records.js";

const NEWLINE = 10;
const HeadSchema = z.object({ kind: z.literal("run"), version: z.int() });

export interface ReadResults {
  readonly records: readonly BenchRecord[];
  /** Bytes of the whole lines. */
  readonly bytes: number;
  /** Whether another line follows them that was cut off while it was written. */
  readonly cutOff: boolean;
}

/**
 * Reads a results file. A last line without its end is left out: the program or the machine stopped in the middle of it.
 * @throws MWARP_E_USAGE when the file cannot be read, is of another version, or has a whole line that is no record, with its number
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
  const values = lines.map((line, index) => parseJson(line, `${basename(file)}, line ${index + 1}`));
  if (values.length > 0) checkHead(values[0], `${basename(file)}, line 1`);
  const records = values.map((value, index) => parseRecord(value, `${basename(file)}, line ${index + 1}`));
  return { records, bytes, cutOff: bytes < content.length };
}

function parseJson(line: string, where: string): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw wrong(`${where}: not a record`, [], cause);
  }
}

function checkHead(value: unknown, where: string): void {
  const head = HeadSchema.safeParse(value);
  if (!head.success) throw wrong(`${where}: the first record is not that of a run`);
  const { version } = head.data;
  if (version !== RECORD_VERSION)
    throw wrong(`${where}: records of version ${version}, this program reads version ${RECORD_VERSION}`);
}

function parseRecord(value: unknown, where: string): BenchRecord {
  const parsed = BenchRecordSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw wrong(`${where}: not a record`, z.prettifyError(parsed.error).split("\n"));
}

const wrong = (message: string, details: readonly string[] = [], cause?: unknown): MwarpError =>
  new MwarpError("MWARP_E_USAGE", message, {
    hint: "Name a results file of mwarp bench, as this version writes it.",
    details,
    cause,
  });

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

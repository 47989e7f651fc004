/** Reads a results file. A run that was cut off leaves half a line at the end: that one is left out and said, no other is. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import * as z from "zod/mini";
import { MwarpError } from "../../errors.js";
import { type BenchRecord, BenchRecordSchema, RECORD_VERSION } from "../records.js";

const HeadSchema = z.object({ kind: z.literal("run"), version: z.int() });

/**
 * @param note what was left out, in a sentence
 * @throws MWARP_E_USAGE when the file is of another version or holds a line that is no record, with the number of the line
 */
export async function readRecords(
  file: string,
  note: (message: string) => void = () => undefined,
): Promise<BenchRecord[]> {
  const name = path.basename(file);
  const lines = (await readFile(file, "utf8")).split("\n");
  const records: BenchRecord[] = [];
  for (const [index, line] of lines.entries()) {
    if (line.trim() === "") continue;
    const value = parseJson(line);
    // Whole lines end with a newline, so only what follows the last one can be half a line.
    if (value === undefined && index === lines.length - 1) {
      note(`${name}: the last line is cut off and left out`);
      continue;
    }
    if (records.length === 0) checkHead(value, `${name}, line ${index + 1}`);
    const parsed = BenchRecordSchema.safeParse(value);
    if (!parsed.success)
      throw wrong(`${name}, line ${index + 1}: not a record`, z.prettifyError(parsed.error).split("\n"));
    records.push(parsed.data);
  }
  return records;
}

function checkHead(value: unknown, where: string): void {
  const head = HeadSchema.safeParse(value);
  if (!head.success) throw wrong(`${where}: the first record is not that of a run`);
  const { version } = head.data;
  if (version !== RECORD_VERSION)
    throw wrong(`${where}: records of version ${version}, this program reads version ${RECORD_VERSION}`);
}

const wrong = (message: string, details: readonly string[] = []): MwarpError =>
  new MwarpError("MWARP_E_USAGE", message, {
    hint: "Name a results file of mwarp bench, as this version writes it.",
    details,
  });

/** `undefined` for what is not JSON: JSON itself has no such value. */
function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** From the records of a benchmark to documents for people. */
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import type { BenchRecord } from "../records.js";
import { sortRecords } from "../results.js";
import { htmlPage } from "./html.js";
import { markdown } from "./markdown.js";

export { readRecords } from "./read.js";

export const writeHtml = async (records: readonly BenchRecord[], file: string): Promise<void> =>
  write(file, await htmlPage(sortRecords(records)));

export const writeMarkdown = async (records: readonly BenchRecord[], file: string): Promise<void> =>
  write(file, markdown(sortRecords(records)));

async function write(file: string, text: string): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, text);
}

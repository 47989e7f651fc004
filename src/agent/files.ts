/** Small file operations that Node lacks. */
import { readText, rename, stat, writeFile } from "./memory-files.js";

/** ENODEV: a cgroup that was removed while one of its files was open. */
const missing = new Set<unknown>(["ENOENT", "ESRCH", "ENODEV"]);

export const isMissing = (error: unknown): boolean =>
  error instanceof Error && "code" in error && missing.has(error.code);

/** The text of a file, or null when it does not exist (or the process it belongs to is gone). */
export async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readText(path);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/** A file that holds one number; null when it does not exist. */
export async function readNumber(path: string): Promise<number | null> {
  const text = await readIfThere(path);
  const value = text === null ? Number.NaN : Number.parseInt(text, 10);
  return Number.isNaN(value) ? null : value;
}

/** Replaces a file so that a reader, or this agent after a crash, finds the old text or the new one whole. */
export async function writeAtomic(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text);
  await rename(`${path}.new`, path);
}

export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

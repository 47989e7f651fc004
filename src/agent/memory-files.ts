/**
 * Operations of node:fs/promises, done at once: for files that lie in memory (tmpfs, /proc, cgroups), which is all that the agent
 * works on while a container stands still. The promise API hands each of them to another thread and waits for it, which with one
 * emulated processor takes milliseconds where the operation takes a tenth of one. What may take long is not for here: trees.
 */
import {
  closeSync,
  linkSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from "node:fs";

export async function readText(path: string): Promise<string> {
  return readFileSync(path, "utf8");
}

export async function readBytes(path: string): Promise<Buffer> {
  return readFileSync(path);
}

export async function writeFile(path: string, data: string | Uint8Array): Promise<void> {
  writeFileSync(path, data);
}

export async function rename(from: string, to: string): Promise<void> {
  renameSync(from, to);
}

export async function link(existing: string, path: string): Promise<void> {
  linkSync(existing, path);
}

/** A file, which need not be there. */
export async function remove(path: string): Promise<void> {
  rmSync(path, { force: true });
}

export async function stat(path: string): Promise<Stats> {
  return statSync(path);
}

/** Names of the regular files in a directory. */
export async function regularFiles(dir: string): Promise<string[]> {
  const entries = readdirSync(dir, { withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
}

/** Names of the directories in a directory, which need not be there. */
export async function directories(dir: string): Promise<string[]> {
  try {
    const entries = readdirSync(dir, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  }
}

/** An open file. */
export class MemoryFile implements Disposable {
  readonly #fd: number;

  constructor(path: string, flags: "r" | "w" | "a", mode?: number) {
    this.#fd = openSync(path, flags, mode);
  }

  /** Fills `into` from byte `at` of the file on; gives the number of bytes there were. */
  read(into: Uint8Array, at: number): number {
    return readSync(this.#fd, into, 0, into.length, at);
  }

  /** After what was written before. */
  append(data: Uint8Array): void {
    writeFileSync(this.#fd, data);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

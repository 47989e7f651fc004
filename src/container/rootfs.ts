/** Root file systems as archives: a directory becomes one tar file named by its digest, which every VM can check. */
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { MwarpError } from "../errors.js";

export interface RootfsArchive {
  /** sha256 of the archive, 64 hex digits. */
  readonly digest: string;
  readonly file: string;
  readonly bytes: number;
}

/**
 * The same tree gives the same bytes: names sorted, times of access and change left out. Owners are numbers, extended
 * attributes (file capabilities) are kept. Other file systems mounted inside are not followed.
 */
const TAR_OPTIONS = [
  "--create",
  "--format=posix",
  "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
  "--sort=name",
  "--numeric-owner",
  "--xattrs",
  "--xattrs-include=*",
  "--one-file-system",
];
const MAX_STDERR = 4096;

/**
 * Packs `directory` into `store`/<digest>.tar. An archive that is there already is kept and used.
 * @throws MWARP_E_USAGE when the directory is missing, empty, unreadable or changes meanwhile; MWARP_E_CANCELLED.
 */
export async function archiveRootfs(
  directory: string,
  store: string,
  signal: AbortSignal,
): Promise<RootfsArchive> {
  await checkDirectory(directory);
  await mkdir(store, { recursive: true });
  const partial = path.join(store, `.${process.pid}-${randomBytes(6).toString("hex")}.partial`);
  try {
    const { digest, bytes } = await pack(directory, partial, signal);
    const file = path.join(store, `${digest}.tar`);
    await rename(partial, file);
    return { digest, file, bytes };
  } catch (error) {
    if (signal.aborted)
      throw new MwarpError("MWARP_E_CANCELLED", "packing the root file system was cancelled");
    throw error;
  } finally {
    await rm(partial, { force: true });
  }
}

async function checkDirectory(directory: string): Promise<void> {
  const refuse = (problem: string, cause?: unknown): never => {
    throw new MwarpError("MWARP_E_USAGE", `${directory} ${problem}`, {
      hint: "A root file system is a directory with the container's files: bin, etc, usr ...",
      ...(cause === undefined ? {} : { cause }),
    });
  };
  const found = await stat(directory).catch((cause: unknown) => refuse("cannot be read", cause));
  if (!found.isDirectory()) refuse("is not a directory");
  const entries = await readdir(directory).catch((cause: unknown) => refuse("cannot be read", cause));
  if (entries.length === 0) refuse("is empty");
}

/** Runs tar, writes its output to `file` and hashes it on the way. */
async function pack(
  directory: string,
  file: string,
  signal: AbortSignal,
): Promise<{ digest: string; bytes: number }> {
  const hash = createHash("sha256");
  let bytes = 0;
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      bytes += chunk.length;
      done(null, chunk);
    },
  });
  const tar = spawn("tar", [...TAR_OPTIONS, "--directory", directory, "."], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, LC_ALL: "C", TAR_OPTIONS: "" },
    signal,
  });
  let stderr = "";
  tar.stderr.on("data", (data: Buffer) => {
    stderr = (stderr + data.toString()).slice(-MAX_STDERR);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    tar.once("error", reject);
    tar.once("close", resolve);
  });
  const [status] = await Promise.all([
    ended,
    pipeline(tar.stdout, meter, createWriteStream(file), { signal }),
  ]);
  if (status !== 0) throw tarFailed(directory, status, stderr);
  return { digest: hash.digest("hex"), bytes };
}

function tarFailed(directory: string, status: number | null, stderr: string): MwarpError {
  const lines = stderr.trim().split("\n");
  // 1: a file changed while it was read; 2: something could not be read.
  const problem = status === 1 ? "changed while it was packed" : "could not be packed";
  return new MwarpError("MWARP_E_USAGE", `${directory} ${problem}: ${lines.at(0) ?? ""}`, { details: lines });
}

/** What a run's figures depend on, besides mWarp: the machine, the programs, the commit. */
import { availableParallelism, cpus, release, totalmem } from "node:os";
import { isMwarpError } from "../errors.js";
import { run } from "../lab/exec.js";
import { packageRoot } from "../paths.js";
import type { RunRecord } from "./records.js";

export type Machine = RunRecord["machine"];

/** @throws MWARP_E_LAB when QEMU is not there */
export async function thisMachine(): Promise<Machine> {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memory: totalmem(),
    kernel: release(),
    node: process.version,
    qemu: versionIn(await run(["qemu-system-x86_64", "--version"])),
  };
}

/** "QEMU emulator version 7.2.9 (Debian ...)" -> "7.2.9"; the first line when it has no number. */
export function versionIn(text: string): string {
  const [line = ""] = text.split("\n");
  return /\d+(?:\.\d+)+/.exec(line)?.[0] ?? line.trim();
}

/** Commit of the running program, with `-dirty` when tracked files differ from it; null outside a checkout. */
export async function thisCommit(): Promise<string | null> {
  const git = (...args: string[]): Promise<string> => run(["git", "-C", packageRoot(), ...args]);
  try {
    const commit = (await git("rev-parse", "HEAD")).trim();
    const changed = await git("status", "--porcelain", "--untracked-files=no");
    return changed.trim() === "" ? commit : `${commit}-dirty`;
  } catch (error) {
    // An installed package, or a machine without git.
    if (isMwarpError(error, "MWARP_E_LAB")) return null;
    throw error;
  }
}

/**
 * One daemon per run directory. The lock is flock(2) on an open file: the kernel drops it when the process ends, however
 * it ends, so there is no stale lock to guess about. Node has no flock; util-linux's command locks the open file
 * description it inherits, which stays locked for as long as this process holds the descriptor.
 */
import { spawnSync } from "node:child_process";
import { closeSync, fstatSync, openSync, rmSync, statSync } from "node:fs";
import { MwarpError } from "../errors.js";

/** Exit status of `flock -n` when somebody else holds the lock. */
const HELD = 1;

/**
 * Takes the lock, or returns null when another process has it. Giving it back removes the file; a process that had it
 * open by then notices that its file is no longer the one of that name, and tries again.
 */
export function tryLock(file: string): Disposable | null {
  while (true) {
    const fd = openSync(file, "a", 0o600);
    if (!flock(fd, file)) {
      closeSync(fd);
      return null;
    }
    if (isAt(fd, file))
      return {
        [Symbol.dispose]: () => {
          rmSync(file, { force: true });
          closeSync(fd);
        },
      };
    closeSync(fd);
  }
}

function flock(fd: number, file: string): boolean {
  const { status, error, stderr } = spawnSync("flock", ["--nonblock", "3"], {
    stdio: ["ignore", "ignore", "pipe", fd],
    timeout: 10_000,
  });
  if (status === 0) return true;
  if (status === HELD && error === undefined) return false;
  closeSync(fd);
  throw new MwarpError("MWARP_E_INTERNAL", `flock on ${file} failed: ${error?.message ?? String(stderr)}`, {
    hint: "flock is part of util-linux.",
  });
}

/** Whether the open file is still the one of that name. */
function isAt(fd: number, file: string): boolean {
  const there = statSync(file, { throwIfNoEntry: false });
  return there !== undefined && there.ino === fstatSync(fd).ino;
}

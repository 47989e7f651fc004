/** The process that keeps a container's output and exit code (native/guest/shim.c), seen from the agent. */
import { constants } from "node:os";
import { join } from "node:path";
import { MwarpError } from "../../errors.js";
import { exists, isMissing, readIfThere, readNumber } from "../files.js";
import { log } from "../log.js";
import { remove } from "../memory-files.js";
import { containerPaths, HELPER } from "../paths.js";
import { pollUntil } from "../process.js";
import { initPid } from "./store.js";

const FLUSH_TIMEOUT_MS = 10_000;
const END_TIMEOUT_MS = 10_000;

/** It is the parent of the container's first process, whichever agent or migration started it. Null when there is none. */
async function shimPid(name: string): Promise<number | null> {
  const init = await initPid(name);
  if (init === null) return null;
  const status = (await readIfThere(`/proc/${init}/status`)) ?? "";
  const parent = Number(/^PPid:\s+(\d+)$/m.exec(status)?.[1] ?? 0);
  const command = (await readIfThere(`/proc/${parent}/cmdline`)) ?? "";
  return command.startsWith(`${HELPER}\0shim\0`) ? parent : null;
}

/** Whether a process keeps SIGUSR1 for itself; it ends one that does not. From the lines of proc_pid_status(5). */
export function blocksUsr1(status: string): boolean {
  const mask = BigInt(`0x${/^SigBlk:\s+([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  return (mask & (1n << BigInt(constants.signals.SIGUSR1 - 1))) !== 0n;
}

/**
 * Answers when all that a container has said is in its log, which moves with it. To be asked of one that stands still: what lies in
 * its pipes would be read here when nobody takes it along any more. `MWARP_E_TIMEOUT` when the shim does not do it.
 */
export async function flushLog(name: string): Promise<void> {
  const pid = await shimPid(name);
  // Without a shim nobody reads what the container says, in any VM.
  if (pid === null) return;
  // The shim of a container that an older agent started knows of no flush.
  if (!blocksUsr1((await readIfThere(`/proc/${pid}/status`)) ?? "")) {
    log("warn", `${name}: its shim is an older one, and what lies in its pipes is lost`);
    return;
  }
  const { flushed } = containerPaths(name);
  await remove(flushed);
  try {
    process.kill(pid, "SIGUSR1");
  } catch (cause) {
    if (isMissing(cause)) return;
    throw new MwarpError("MWARP_E_RUNTIME", `the shim of ${name} cannot be asked for its log`, { cause });
  }
  await pollUntil(`the log of ${name}`, async () => ((await exists(flushed)) ? true : null), {
    timeoutMs: FLUSH_TIMEOUT_MS,
    everyMs: 1,
  });
}

/**
 * Waits for the end of the shim that started a container here: it has still to write down the exit code, which must not come to lie
 * beside a container that was started again. `MWARP_E_TIMEOUT` when it goes on.
 */
export async function shimEnds(job: string): Promise<void> {
  await pollUntil(
    `the end of the shim of ${job}`,
    async () => {
      const pid = await readNumber(join(job, "pid"));
      const command = (await readIfThere(`/proc/${pid}/cmdline`)) ?? "";
      return pid !== null && command.startsWith(`${HELPER}\0shim\0`) && command.includes(`\0${job}\0`)
        ? null
        : true;
    },
    { timeoutMs: END_TIMEOUT_MS, everyMs: 5 },
  );
}

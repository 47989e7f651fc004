/** The process that keeps a container's output and exit code (native/guest/shim.c), seen from the agent. */
import { MwarpError } from "../../errors.js";
import { exists, isMissing, readIfThere } from "../files.js";
import { remove } from "../memory-files.js";
import { containerPaths, HELPER } from "../paths.js";
import { pollUntil } from "../process.js";
import { initPid } from "./store.js";

const FLUSH_TIMEOUT_MS = 10_000;

/** It is the parent of the container's first process, whichever agent or migration started it. Null when there is none. */
async function shimPid(name: string): Promise<number | null> {
  const init = await initPid(name);
  if (init === null) return null;
  const status = (await readIfThere(`/proc/${init}/status`)) ?? "";
  const parent = Number(/^PPid:\s+(\d+)$/m.exec(status)?.[1] ?? 0);
  const command = (await readIfThere(`/proc/${parent}/cmdline`)) ?? "";
  return command.startsWith(`${HELPER}\0shim\0`) ? parent : null;
}

/**
 * Answers when all that a container has said is in its log, which moves with it. To be asked of one that stands still: what lies in
 * its pipes would be read here when nobody takes it along any more. `MWARP_E_TIMEOUT` when the shim does not do it.
 */
export async function flushLog(name: string): Promise<void> {
  const pid = await shimPid(name);
  // Without a shim nobody reads what the container says, in any VM.
  if (pid === null) return;
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

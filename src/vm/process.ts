/** Processes by pid and start time: a pid alone may by now belong to somebody else. */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { MwarpError } from "../errors.js";

/** A process as it was when its pid was read. `startTime` is field 22 of /proc/PID/stat, in clock ticks since boot. */
export interface ProcessId {
  readonly pid: number;
  readonly startTime: string;
}

const isGone = (error: unknown): boolean => {
  const code = (error as NodeJS.ErrnoException).code;
  return code === "ENOENT" || code === "ESRCH";
};

/** Fields of /proc/PID/stat from the third (state) on. The second, the command name, may itself hold spaces and parentheses. */
function statFields(pid: number): string[] | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    return text
      .slice(text.lastIndexOf(")") + 2)
      .trim()
      .split(" ");
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

/**
 * Start time of a living process, or null when there is none. A zombie counts as gone, for it holds no memory and no files;
 * but a first thread that is one waits for the others, which hold both until the last of them has ended.
 */
export function startTimeOf(pid: number): string | null {
  const fields = statFields(pid);
  if (fields === null || fields[0] === "X") return null;
  if (fields[0] === "Z" && threadsOf(pid) <= 1) return null;
  return fields[19] ?? null;
}

function threadsOf(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/task`).length;
  } catch (error) {
    if (isGone(error)) return 0;
    throw error;
  }
}

export function isAlive(process: ProcessId): boolean {
  return startTimeOf(process.pid) === process.startTime;
}

/** The arguments of a process; empty when it is gone or a kernel thread. */
export function commandLine(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

/** Sends a signal to exactly this process. Returns false when it is gone. */
export function sendSignal(target: ProcessId, signal: NodeJS.Signals): boolean {
  if (!isAlive(target)) return false;
  try {
    process.kill(target.pid, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw error;
  }
}

/** Waits until the process is gone. Returns false when it still lives after `timeoutMs`. */
export async function waitForExit(target: ProcessId, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (isAlive(target)) {
    if (performance.now() >= deadline) return false;
    await sleep(20);
  }
  return true;
}

/**
 * Ends a process: SIGTERM, then SIGKILL after `graceMs`. Resolves once it is gone.
 * @throws MWARP_E_TIMEOUT when even SIGKILL does not end it within ten seconds (a task stuck in the kernel).
 */
export async function endProcess(target: ProcessId, graceMs = 2000): Promise<void> {
  if (!sendSignal(target, "SIGTERM")) return;
  if (await waitForExit(target, graceMs)) return;
  sendSignal(target, "SIGKILL");
  if (await waitForExit(target, 10_000)) return;
  throw new MwarpError("MWARP_E_TIMEOUT", `process ${target.pid} does not end, even by SIGKILL`);
}

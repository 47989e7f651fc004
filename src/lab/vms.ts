/** Starts and ends the lab's QEMU processes. */
import { spawn } from "node:child_process";
import { closeSync, copyFileSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { MwarpError } from "../errors.js";
import { commandLine, endProcess, isAlive, type ProcessId, startTimeOf } from "../vm/process.js";
import type { VmEndpoint } from "../vm/types.js";
import { lastLines } from "./exec.js";
import { FAILED_MARKER, READY_MARKER } from "./guest-files.js";
import { qemuCommand, type VmSpec, vmFiles } from "./qemu.js";

const MAX_SOCKET_PATH = 107;

/**
 * The library in the VM's own directory, or null. A new build overwrites dist/ in place, and a shared object that
 * changes under a running process kills it.
 */
function privateCopy({ preload, directory }: VmSpec): string | null {
  if (preload === null) return null;
  const copy = join(directory, basename(preload));
  copyFileSync(preload, copy);
  return copy;
}

/** Starts QEMU in a session of its own: it outlives the command that started it. Returns when the process exists. */
export function startVm(spec: VmSpec): VmEndpoint {
  const files = vmFiles(spec.directory);
  if (files.agent.length > MAX_SOCKET_PATH)
    throw new MwarpError("MWARP_E_LAB", `${files.agent}: longer than a socket path may be`, {
      hint: "Choose a shorter run directory (MWARP_RUN_DIR).",
    });
  mkdirSync(spec.directory, { recursive: true, mode: 0o700 });
  for (const file of Object.values(files)) rmSync(file, { force: true });
  const [program, ...args] = qemuCommand({ ...spec, preload: privateCopy(spec) });
  const log = openSync(files.log, "a", 0o600);
  try {
    const child = spawn(program, args, {
      detached: true,
      stdio: ["ignore", log, log],
      cwd: "/",
      // Nothing of the caller's environment reaches the VM.
      env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
    });
    // Said by waitUntilReady: the process never comes alive.
    child.on("error", () => undefined);
    child.unref();
    const startTime = child.pid === undefined ? null : startTimeOf(child.pid);
    if (child.pid === undefined || startTime === null)
      throw new MwarpError("MWARP_E_LAB", `${spec.name}: QEMU did not start`, {
        hint: `The log is ${files.log}.`,
      });
    return {
      name: spec.name,
      pid: child.pid,
      startTime,
      qmpSocket: files.qmp,
      agentSocket: files.agent,
      vmmSocket: spec.preload === null ? null : files.vmm,
      address: spec.address,
    };
  } finally {
    closeSync(log);
  }
}

const readText = (file: string): string => {
  try {
    return readFileSync(file, "latin1");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
};

/**
 * Waits until the guest says on its console that it is up.
 * @throws MWARP_E_LAB with the last lines of QEMU and of the console when the VM ends; MWARP_E_TIMEOUT; MWARP_E_CANCELLED.
 */
export async function waitUntilReady(
  endpoint: VmEndpoint,
  directory: string,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const files = vmFiles(directory);
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    if (signal?.aborted)
      throw new MwarpError("MWARP_E_CANCELLED", `cancelled while ${endpoint.name} was booting`);
    const console = readText(files.console);
    const failure = console.split(FAILED_MARKER)[1]?.split("\n")[0].trim();
    if (failure === undefined && console.includes(READY_MARKER)) return;
    const details = [...lastLines(readText(files.log), 6), ...lastLines(console, 8)];
    const hint = `See ${files.console} and ${files.log}.`;
    if (!isAlive(endpoint))
      throw new MwarpError("MWARP_E_LAB", `${endpoint.name} ended while booting`, { details, hint });
    if (failure !== undefined)
      throw new MwarpError("MWARP_E_LAB", `${endpoint.name}: the guest says: ${failure}`, { details, hint });
    if (performance.now() >= deadline) {
      const message = `${endpoint.name} has not booted in ${Math.round(timeoutMs / 1000)} s`;
      throw new MwarpError("MWARP_E_TIMEOUT", message, { details, hint });
    }
    await sleep(50);
  }
}

/**
 * QEMU processes that were started with the pid file of `directory`: also those whose starter died before it could
 * write their pid down.
 */
export function findVmProcesses(directory: string): ProcessId[] {
  const pidFile = vmFiles(directory).pid;
  const found: ProcessId[] = [];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid || !commandLine(pid).includes(pidFile)) continue;
    const startTime = startTimeOf(pid);
    if (startTime !== null) found.push({ pid, startTime });
  }
  return found;
}

/** Ends a VM and waits until its memory is given back. Does nothing when it is gone. */
export async function stopVm(directory: string): Promise<void> {
  await Promise.all(findVmProcesses(directory).map((found) => endProcess(found)));
  rmSync(directory, { recursive: true, force: true });
}

/** A container's cgroup (v2): its tasks, its freezer, its end. */
import { join } from "node:path";
import type { Task } from "../../protocol/agent.js";
import { isMissing, readIfThere, readNumber } from "../files.js";
import { directories, readText, writeFile } from "../memory-files.js";
import { CHECK_GROUP } from "../paths.js";
import { pollUntil } from "../process.js";

const FREEZE_TIMEOUT_MS = 10_000;
const KILL_TIMEOUT_MS = 10_000;

async function pids(cgroup: string): Promise<number[]> {
  const text = await readIfThere(join(cgroup, "cgroup.procs"));
  return (text ?? "").split("\n").filter(Boolean).map(Number);
}

/** A line of /proc/PID/status, or null when the process is gone. */
async function statusField(pid: number, field: string): Promise<string | null> {
  const text = await readIfThere(`/proc/${pid}/status`);
  return new RegExp(`^${field}:\\s*(.*)$`, "m").exec(text ?? "")?.[1] ?? null;
}

/** The processes of a cgroup with their pids inside the container. */
export async function tasksOf(cgroup: string): Promise<Task[]> {
  const tasks: Task[] = [];
  for (const pid of await pids(cgroup)) {
    const nsPids = await statusField(pid, "NSpid");
    if (nsPids !== null) tasks.push({ pid, nsPid: Number(nsPids.split(/\s+/).at(-1)) });
  }
  return tasks.sort((a, b) => a.nsPid - b.nsPid);
}

/** Groups below a container's own, at any depth (cgroup.stat, Documentation/admin-guide/cgroup-v2.rst). That of a health check is ours. */
export async function subgroups(cgroup: string): Promise<number> {
  const own = (await directories(cgroup)).filter((name) => name !== CHECK_GROUP);
  if (own.length === 0) return 0;
  const text = (await readIfThere(join(cgroup, "cgroup.stat"))) ?? "";
  return Number(/^nr_descendants (\d+)$/m.exec(text)?.[1] ?? 0);
}

export async function isFrozen(cgroup: string): Promise<boolean> {
  return ((await readIfThere(join(cgroup, "cgroup.events"))) ?? "").includes("frozen 1");
}

/** Whether any task lives in it, or in a group below it. */
export async function isPopulated(cgroup: string): Promise<boolean> {
  return ((await readIfThere(join(cgroup, "cgroup.events"))) ?? "").includes("populated 1");
}

/** Freezes and waits until the kernel says that every task is frozen. `MWARP_E_TIMEOUT` when one does not. */
export async function freeze(cgroup: string): Promise<void> {
  await writeFile(join(cgroup, "cgroup.freeze"), "1");
  await pollUntil(
    `freezing ${cgroup}`,
    async () => ((await readText(join(cgroup, "cgroup.events"))).includes("frozen 1") ? true : null),
    { timeoutMs: FREEZE_TIMEOUT_MS, everyMs: 1 },
  );
}

export async function thaw(cgroup: string): Promise<void> {
  await writeFile(join(cgroup, "cgroup.freeze"), "0");
}

/** False when the cgroup is gone. */
async function writeControl(cgroup: string, name: string, value: string): Promise<boolean> {
  try {
    await writeFile(join(cgroup, name), value);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/**
 * Ends the tasks of a restore and CRIU, if it is among them. The freezer first: a task whose tracer dies a moment before
 * it does must not come to run.
 */
export async function killRestored(cgroup: string): Promise<void> {
  if (await writeControl(cgroup, "cgroup.freeze", "1")) await killAll(cgroup);
}

/** Ends every task, frozen or not, and waits for the last. Nothing to do when the cgroup is gone. */
export async function killAll(cgroup: string): Promise<void> {
  if (!(await writeControl(cgroup, "cgroup.kill", "1"))) return;
  await pollUntil(
    `killing ${cgroup}`,
    async () =>
      ((await readIfThere(join(cgroup, "cgroup.events"))) ?? "populated 0").includes("populated 0")
        ? true
        : null,
    { timeoutMs: KILL_TIMEOUT_MS },
  );
}

export async function memoryBytes(cgroup: string): Promise<number> {
  return (await readNumber(join(cgroup, "memory.current"))) ?? 0;
}

/** Shared memory of its tasks, and what they have in files on tmpfs, bytes (cgroup-v2.rst, memory.stat). */
export async function sharedBytes(cgroup: string): Promise<number> {
  const text = (await readIfThere(join(cgroup, "memory.stat"))) ?? "";
  return Number(/^shmem (\d+)$/m.exec(text)?.[1] ?? 0);
}

/** How many of its processes the kernel has killed for want of memory (cgroup-v2.rst, memory.events). */
export async function outOfMemoryKills(cgroup: string): Promise<number> {
  const text = (await readIfThere(join(cgroup, "memory.events"))) ?? "";
  return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
}

/** What lies in swap of the container's memory, bytes. 0 on kernels without swap accounting. */
export async function swapBytes(cgroup: string): Promise<number> {
  return (await readNumber(join(cgroup, "memory.swap.current"))) ?? 0;
}

/** memory.max in bytes; null for none. */
export async function memoryLimitBytes(cgroup: string): Promise<number | null> {
  const text = ((await readIfThere(join(cgroup, "memory.max"))) ?? "max").trim();
  return text === "max" ? null : Number(text);
}

/** True while a tracer (CRIU) holds the task. */
export async function isTraced(pid: number): Promise<boolean> {
  const tracer = await statusField(pid, "TracerPid");
  return tracer !== null && tracer !== "0";
}

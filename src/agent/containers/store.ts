/** Containers of this guest, as their files say: nothing is kept in the agent's memory. */
import { chmod, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isMwarpError, MwarpError } from "../../errors.js";
import {
  type ContainerSpec,
  ContainerSpecSchema,
  type ContainerState,
  type ContainerStatus,
} from "../../protocol/container.js";
import { exists, isMissing, readIfThere, readNumber, writeAtomic } from "../files.js";
import { CONTAINERS_DIR, containerPaths, STAGING_DIR } from "../paths.js";
import { isFrozen, memoryBytes, outOfMemoryKills } from "./cgroup.js";
import { HealthFileSchema } from "./health-state.js";
import { type Life, loadLife, monotonicMs, readState } from "./life.js";
import { wantsRestart } from "./restart-policy.js";

const EXIT_LOOKS = 10;
const EXIT_LOOK_MS = 20;

/** The record of a container. `MWARP_E_CONTAINER_UNKNOWN` when there is none of that name. */
export async function loadSpec(name: string): Promise<ContainerSpec> {
  const text = await readIfThere(containerPaths(name).spec);
  if (text === null) throw new MwarpError("MWARP_E_CONTAINER_UNKNOWN", `no container ${name} in this VM`);
  return ContainerSpecSchema.parse(JSON.parse(text));
}

/**
 * Makes the container's directory, with its record and the migration that has it, in one step: an agent that is killed
 * leaves all of it, for the next one to remove, or nothing. `MWARP_E_NAME_TAKEN`, and then nothing was touched.
 */
export async function claimName(
  spec: ContainerSpec,
  owner: { readonly migration: string | null },
): Promise<void> {
  const { dir, spec: specFile, held } = containerPaths(spec.name);
  const taken = new MwarpError("MWARP_E_NAME_TAKEN", `this VM already has a container ${spec.name}`);
  if (await exists(dir)) throw taken;
  const staged = await mkdtemp(join(STAGING_DIR, "new-"));
  try {
    await writeFile(join(staged, basename(specFile)), JSON.stringify(spec));
    if (owner.migration !== null) await writeFile(join(staged, basename(held)), owner.migration);
    await chmod(staged, 0o755);
    await rename(staged, dir);
  } catch (error) {
    await rm(staged, { recursive: true, force: true });
    throw isOccupied(error) ? taken : error;
  }
}

const isOccupied = (error: unknown): boolean =>
  error instanceof Error && "code" in error && (error.code === "ENOTEMPTY" || error.code === "EEXIST");

/** Removes the container's directory; it is out of sight in one step, so no half of a container is ever found. */
export async function freeName(name: string): Promise<void> {
  const staged = await mkdtemp(join(STAGING_DIR, "old-"));
  try {
    await rename(containerPaths(name).dir, staged);
  } catch (error) {
    if (!isMissing(error)) throw error;
  } finally {
    await rm(staged, { recursive: true, force: true });
  }
}

/** Which migration has the container; null when none. */
export async function heldBy(name: string): Promise<string | null> {
  return (await readIfThere(containerPaths(name).held))?.trim() ?? null;
}

/** Whole or not at all: a mark without a name in it would be nobody's, and never go. */
export async function setHeld(name: string, migration: string): Promise<void> {
  await writeAtomic(containerPaths(name).held, migration);
}

export async function clearHeld(name: string): Promise<void> {
  await rm(containerPaths(name).held, { force: true });
}

export async function containerNames(): Promise<string[]> {
  return (await readdir(CONTAINERS_DIR)).sort();
}

/** Init's pid in the guest, or null when it does not run. */
export async function initPid(name: string): Promise<number | null> {
  const paths = containerPaths(name);
  if (await exists(paths.exit)) return null;
  const pid = await readNumber(paths.pid);
  return pid !== null && (await exists(`/proc/${pid}`)) ? pid : null;
}

export async function containerState(name: string): Promise<ContainerState> {
  const paths = containerPaths(name);
  const [spec, pid, held, life, memory] = await Promise.all([
    loadSpec(name),
    initPid(name),
    heldBy(name),
    loadLife(name),
    memoryBytes(paths.cgroup),
  ]);
  const exitCode = pid === null ? await exitCodeOf(name) : null;
  const started = pid !== null || exitCode !== null || (await exists(paths.pid));
  let status: ContainerStatus = started ? "stopped" : "created";
  if (pid !== null) status = (await isFrozen(paths.cgroup)) ? "paused" : "running";
  else if (held === null && comesBack(spec, life, exitCode)) status = "restarting";
  const over = pid === null && exitCode !== null;
  const dueInMs = life.dueAt === null ? null : Math.max(0, Math.round(life.dueAt - monotonicMs()));
  return {
    spec,
    status,
    pid,
    memoryBytes: memory,
    exitCode,
    outOfMemory: over && (await outOfMemoryKills(paths.cgroup)) > 0,
    held,
    restart: { count: life.count, dueInMs, error: life.error },
    health: await healthOf(spec),
  };
}

/** Of one that does not run. Its shim sees its end a moment before it has written it down. Null when it never ran, or lost its shim. */
async function exitCodeOf(name: string): Promise<number | null> {
  const { exit, pid } = containerPaths(name);
  for (let looks = 0; ; looks++) {
    const exitCode = await readNumber(exit);
    if (exitCode !== null || looks === EXIT_LOOKS || !(await exists(pid))) return exitCode;
    await sleep(EXIT_LOOK_MS);
  }
}

/** Whether one that does not run is going to be started again, or is being started. */
function comesBack({ restart }: ContainerSpec, life: Life, exitCode: number | null): boolean {
  if (life.phase === "starting") return true;
  if (life.phase === "ended") return life.dueAt !== null;
  return exitCode !== null && life.wanted === "running" && wantsRestart(restart, life.count, exitCode);
}

async function healthOf({ name, health: check }: ContainerSpec): Promise<ContainerState["health"]> {
  if (check === null) return null;
  const found = await readState(containerPaths(name).health, HealthFileSchema);
  if (found === null) return { status: "starting", failingStreak: 0, results: [] };
  const { since: _ours, ...told } = found;
  return told;
}

/** All containers; one without a record, as its files vanish while they are read, is left out. */
export async function listContainers(): Promise<ContainerState[]> {
  const states: ContainerState[] = [];
  for (const name of await containerNames()) {
    try {
      states.push(await containerState(name));
    } catch (error) {
      if (!isMwarpError(error, "MWARP_E_CONTAINER_UNKNOWN")) throw error;
    }
  }
  return states;
}

/**
 * runc and CRIU that were started while the container still ran, and wait to be told what to do (native/guest/swrk.c): what they
 * need to start is not paid for by a container that stands still.
 */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { MwarpError } from "../../errors.js";
import { initPid } from "../containers/store.js";
import { exists } from "../files.js";
import type { Helper } from "../helper.js";
import type { Hooks } from "../hooks.js";
import { endJob, jobRuns } from "../job.js";
import { containerPaths, MIGRATIONS_DIR, type MigrationPaths, migrationPaths } from "../paths.js";
import { runtimeOf } from "../runtimes/runtime.js";
import { type DestinationRecord, loadRecord } from "./record.js";

/** They take a second or two under emulation; on a host that has too much to do, many times that. The container runs meanwhile. */
const START_TIMEOUT_MS = 60_000;

/** Whether a runtime was started for this migration, ahead of time or not. */
export const wasStarted = ({ job }: MigrationPaths): Promise<boolean> => exists(join(job, "pid"));

/** Until CRIU waits for its request. @param ended why it never will */
export async function untilStandingBy(
  migration: string,
  hooks: Hooks,
  options: { signal: AbortSignal; ended: () => Promise<Error | null> },
): Promise<void> {
  await hooks.wait(migration, "begin", { ...options, timeoutMs: START_TIMEOUT_MS });
}

/** What CRIU would dump must be what the container is now. `MWARP_E_NOT_RUNNING` when it ended, or began anew, meanwhile. */
export async function mustStandBy(migration: string, name: string, hooks: Hooks): Promise<void> {
  const standing = hooks.held(migration, "begin");
  if (standing !== null && standing.initPid !== (await initPid(name)))
    throw new MwarpError("MWARP_E_NOT_RUNNING", `container ${name} ended before it was frozen`);
}

/**
 * Ends dumps that stand by for a container of this name and were forgotten: killed, because a runc that fails later would take the
 * state of a new container of that name for the old one's (checkpoint.go destroys in the end).
 */
export async function endForgottenDumps(name: string): Promise<void> {
  for (const id of await readdir(MIGRATIONS_DIR)) {
    const { job } = migrationPaths(id);
    if (!(await jobRuns(job))) continue;
    const record = await loadRecord(id);
    if (record?.side === "source" && record.step === "prepared" && record.name === name) await endJob(job);
  }
}

/**
 * Shows CRIU the root of the container. The runtime bound what is at its place, an empty directory, to where CRIU looks for it. That goes
 * before the root is mounted: where mounts are shared (mount_namespaces(7)), either would follow the other.
 * @param mountRoot mounts it at its place
 */
export async function showRoot(
  { name, runtime }: DestinationRecord,
  helper: Helper,
  mountRoot: () => Promise<unknown>,
): Promise<void> {
  const shown = runtimeOf(runtime).restoreRoot(name);
  await helper.unmount(shown);
  await mountRoot();
  await helper.bindMount(containerPaths(name).merged, shown);
}

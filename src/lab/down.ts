/** Takes a lab apart: by what lab.json lists, in reverse order of making. Safe to repeat, and after any crash. */
import { existsSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { MwarpError, toMwarpError } from "../errors.js";
import { withLock } from "../lock.js";
import { runDir } from "../paths.js";
import { releasePages } from "./hugepages.js";
import { removeNetwork } from "./network.js";
import type { LabCallOptions } from "./progress.js";
import { type Resource, readLabState, readResources, removeLabState, writeLabState } from "./state.js";
import { stopVm } from "./vms.js";

const LOCK_WAIT_MS = 60_000;

export interface LabDownResult {
  /** Names of the VMs that were part of the lab. */
  readonly vms: readonly string[];
  /** False when there was no lab. */
  readonly existed: boolean;
}

export const labLock = <T>(
  waitMs: number,
  signal: AbortSignal | undefined,
  action: () => Promise<T>,
): Promise<T> =>
  withLock("lab", runDir(), { waitMs, signal, busy: "another lab command is at work" }, action);

/**
 * Ends the lab. What fails does not keep the rest from being given back.
 * @throws MWARP_E_LAB listing what could not be given back: run it again; MWARP_E_BUSY.
 */
export async function labDown(options: LabCallOptions = {}): Promise<LabDownResult> {
  return labLock(LOCK_WAIT_MS, options.signal, () => takeDown(options));
}

/** The same for a caller that holds the lock. */
export async function takeDown(options: LabCallOptions): Promise<LabDownResult> {
  const state = readLabState();
  const resources = readResources();
  const vms = resources.filter((resource) => resource.kind === "vm");
  if (state !== null && state !== "damaged") {
    writeLabState({ ...state, phase: "stopping" });
    if (vms.length > 0) options.onProgress?.({ step: "down", message: `ending ${vms.length} VMs` });
  }
  const failures: MwarpError[] = [];
  const attempt = async (action: () => void | Promise<void>): Promise<void> => {
    try {
      await action();
    } catch (error) {
      failures.push(toMwarpError(error));
    }
  };
  // All VMs first, at once, also those of a damaged file: nothing else can be given back while one runs.
  const directories = new Set([...vms.map((vm) => vm.directory), ...leftDirectories()]);
  await Promise.all([...directories].map((directory) => attempt(() => stopVm(directory))));
  for (const resource of resources.toReversed()) await attempt(() => giveBack(resource));
  if (failures.length > 0) {
    throw new MwarpError("MWARP_E_LAB", `the lab is not wholly down: ${failures[0].message}`, {
      hint: "Run mwarp lab down again.",
      details: failures.map((failure) => failure.message),
      cause: failures[0],
    });
  }
  removeLabState();
  removeRunDirectory();
  return { vms: vms.map((vm) => vm.name), existed: state !== null };
}

/** VM directories on disk, whatever lab.json says. */
function leftDirectories(): string[] {
  const parent = join(runDir(), "vms");
  return existsSync(parent) ? readdirSync(parent).map((name) => join(parent, name)) : [];
}

async function giveBack(resource: Resource): Promise<void> {
  switch (resource.kind) {
    case "vm":
      return; // ended before all others
    case "netns":
      return removeNetwork(resource.name, resource.mounted);
    case "hugepages":
      return releasePages(resource);
    case "directory":
      rmSync(resource.path, { recursive: true, force: true });
  }
}

/** The run directory is the daemon's too: it goes only when empty. */
function removeRunDirectory(): void {
  // "probe" stays behind when the program is killed while it tries /dev/kvm.
  for (const name of ["vms", "probe"]) rmSync(join(runDir(), name), { recursive: true, force: true });
  try {
    rmdirSync(runDir());
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== "ENOTEMPTY" && code !== "ENOENT") throw error;
  }
}

/**
 * runc and CRIU that were started while the container still ran, and wait to be told what to do (native/guest/swrk.c): what they
 * need to start is not paid for by a container that stands still.
 */
import { join } from "node:path";
import * as z from "zod/mini";
import { MwarpError } from "../../errors.js";
import { exists, readIfThere } from "../files.js";
import type { Helper } from "../helper.js";
import type { Hooks } from "../hooks.js";
import { containerPaths, type MigrationPaths, runcRestoreRoot, runcState } from "../paths.js";

/** They take less than a second, also under emulation. */
const START_TIMEOUT_MS = 15_000;
const RuncStateSchema = z.object({ external_descriptors: z.optional(z.array(z.string())) });

/** Where runc remembers what it gave to the container's init as its first descriptors; null when it does not say. */
export async function externalDescriptors(name: string): Promise<string[] | null> {
  const text = await readIfThere(runcState(name));
  if (text === null) throw new MwarpError("MWARP_E_NOT_RUNNING", `runc knows no container ${name}`);
  return RuncStateSchema.parse(JSON.parse(text)).external_descriptors ?? null;
}

/** Whether a runc was started for this migration, ahead of time or not. */
export const wasStarted = ({ job }: MigrationPaths): Promise<boolean> => exists(join(job, "pid"));

/** Until CRIU waits for its request. @param ended why it never will */
export async function untilStandingBy(
  migration: string,
  hooks: Hooks,
  options: { signal: AbortSignal; ended: () => Promise<Error | null> },
): Promise<void> {
  await hooks.wait(migration, "begin", { ...options, timeoutMs: START_TIMEOUT_MS });
}

/**
 * Shows CRIU the root of the container, mounted since. runc bound what was at its place then, an empty directory, to where CRIU
 * looks for it.
 */
export async function showRoot(name: string, helper: Helper): Promise<void> {
  const shown = runcRestoreRoot(name);
  await helper.unmount(shown);
  await helper.bindMount(containerPaths(name).merged, shown);
}

/**
 * A container whose runc died after the commit. CRIU, and runc with it, may be killed while the restored tasks wait: the
 * freezer has them, and they run once thawed, but a runc that fails forgets them. Its record is kept aside before.
 */
import { copyFile, mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { writeAtomic } from "../files.js";
import { log } from "../log.js";
import { containerPaths, migrationPaths, runcState } from "../paths.js";
import type { DestinationRecord } from "./record.js";

/** While the tasks wait: notes down what runc and its shim will be asked for. */
export async function keepForAdoption(record: DestinationRecord, initPid: number): Promise<void> {
  await copyFile(runcState(record.name), migrationPaths(record.id).runcState);
  await writeAtomic(containerPaths(record.name).pid, `${initPid}\n`);
}

/** After runc failed: gives it its record back, so that it can be asked to exec, to checkpoint and to delete. */
export async function adopt(record: DestinationRecord): Promise<void> {
  const state = runcState(record.name);
  await mkdir(dirname(state), { recursive: true, mode: 0o711 });
  await copyFile(migrationPaths(record.id).runcState, state);
  log("warn", `${record.name} runs without the runc that restored it: its state was put back`);
}

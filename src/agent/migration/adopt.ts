/**
 * A container whose runtime died after the commit. CRIU, and the runtime with it, may be killed while the restored tasks wait: the
 * freezer has them, and they run once thawed, but a runtime that fails forgets them. Its record is kept aside before.
 */
import { writeAtomic } from "../files.js";
import { log } from "../log.js";
import { containerPaths, migrationPaths } from "../paths.js";
import { runtimeOf } from "../runtimes/runtime.js";
import type { DestinationRecord } from "./record.js";

/** While the tasks wait: notes down what the runtime and its shim will be asked for. */
export async function keepForAdoption(record: DestinationRecord, initPid: number): Promise<void> {
  const { id, name, runtime } = record;
  await runtimeOf(runtime).keepRecord({ name, initPid, file: migrationPaths(id).runtimeRecord });
  await writeAtomic(containerPaths(name).pid, `${initPid}\n`);
}

/** After the runtime failed: gives it its record back, so that it can be asked to exec, to checkpoint and to delete. */
export async function adopt({ id, name, runtime }: DestinationRecord): Promise<void> {
  await runtimeOf(runtime).putRecordBack(name, migrationPaths(id).runtimeRecord);
  log("warn", `${name} runs without the ${runtime} that restored it: its record was put back`);
}

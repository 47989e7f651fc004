/** The two ends of the source side. Both can be repeated, and both are right when CRIU died: the freezer holds the tasks. */
import { MwarpError } from "../../errors.js";
import type { AgentParams } from "../../protocol/agent.js";
import { isPopulated, thaw } from "../containers/cgroup.js";
import { destroyContainer } from "../containers/lifecycle.js";
import { BRIDGE, vethName } from "../containers/network.js";
import { clearHeld, heldBy, loadSpec } from "../containers/store.js";
import { exists } from "../files.js";
import { jobRuns } from "../job.js";
import { log } from "../log.js";
import { containerPaths, migrationPaths } from "../paths.js";
import { pollUntil } from "../process.js";
import { CriuWatch } from "./criu-watch.js";
import { clearFiles, loadRecord, type SourceRecord, saveRecord } from "./record.js";
import type { Tools } from "./source.js";

const RUNC_END_TIMEOUT_MS = 30_000;
type Empty = Record<string, never>;

function runcEnded(id: string): Promise<true> {
  const { job } = migrationPaths(id);
  const watch = new CriuWatch(job);
  return pollUntil(
    "the end of runc checkpoint",
    async () => ((await jobRuns(job)) && (await watch.endOrphan()) === null ? null : true),
    { timeoutMs: RUNC_END_TIMEOUT_MS },
  );
}

/** Gives the container back to itself: CRIU lets go, then the freezer, then the fence. Needs no turn of its own. */
export async function releaseSource(record: SourceRecord, tools: Tools): Promise<void> {
  const container = containerPaths(record.name);
  await saveRecord({ ...record, step: "aborting" });
  if (record.step !== "prepared") {
    // CRIU undoes what it did in the tasks (it holds parts of their state) before it exits.
    await tools.hooks.release(record.id, "post-dump", 1);
    await runcEnded(record.id);
    const holder = await heldBy(record.name);
    // Nobody's: the mark that was to be written when the migration began to freeze did not come to be.
    if (holder === record.id || (holder === null && (await exists(container.dir)))) {
      if (!(await isPopulated(container.cgroup))) {
        log("error", `${record.name} has no task left after the abort of ${record.id}`);
      } else {
        await thaw(container.cgroup);
        await tools.helper.openFence(vethName(await loadSpec(record.name)), BRIDGE);
      }
      await clearHeld(record.name);
    }
  }
  await saveRecord({ ...record, step: "aborted" });
  await clearFiles(record.id, tools.helper);
}

/** Before the commit. A migration this VM does not know has nothing to undo. */
export async function abortSource(params: AgentParams<"source.abort">, tools: Tools): Promise<Empty> {
  const record = await loadRecord(params.migration);
  if (record?.side !== "source" || record.step === "aborted") return {};
  if (record.step === "retiring" || record.step === "retired") {
    throw new MwarpError("MWARP_E_PROTOCOL", `migration ${record.id} is committed: it cannot be aborted`);
  }
  await releaseSource(record, tools);
  return {};
}

/** After the commit: the container that was left here ends, with all that was made for it. */
export async function retireSource(params: AgentParams<"source.retire">, tools: Tools): Promise<Empty> {
  const record = await loadRecord(params.migration);
  if (record?.side !== "source" || record.step === "retired") return {};
  if (record.step === "aborted" || record.step === "aborting") {
    throw new MwarpError("MWARP_E_PROTOCOL", `migration ${record.id} was aborted: its source runs`);
  }
  const { dir } = containerPaths(record.name);
  await saveRecord({ ...record, step: "retiring" });
  await tools.hooks.release(record.id, "post-dump", 0);
  await runcEnded(record.id).catch((error: unknown) =>
    log("warn", `${record.id}: ${String(error)}; the container is killed without it`),
  );
  if ((await exists(dir)) && (await heldBy(record.name)) === record.id) {
    await destroyContainer(record.name, tools.helper);
  }
  await saveRecord({ ...record, step: "retired" });
  await clearFiles(record.id, tools.helper);
  return {};
}

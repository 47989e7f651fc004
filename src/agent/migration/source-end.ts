/** The two ends of the source side. Both can be repeated, and both are right when CRIU died: the freezer holds the tasks. */
import { MwarpError } from "../../errors.js";
import type { AgentParams } from "../../protocol/agent.js";
import { isFrozen, isPopulated, isTraced, tasksOf, thaw } from "../containers/cgroup.js";
import { destroyContainer } from "../containers/lifecycle.js";
import { clearMoving } from "../containers/moving.js";
import { BRIDGE, vethName } from "../containers/network.js";
import { clearHeld, heldBy, loadSpec } from "../containers/store.js";
import { giveUnread } from "../containers/terminal.js";
import { exists } from "../files.js";
import { jobRuns, killJob } from "../job.js";
import { log } from "../log.js";
import { containerPaths, migrationPaths } from "../paths.js";
import { pollUntil } from "../process.js";
import { connectAndClose, endConnections, listens } from "../tcp-port.js";
import { CriuWatch } from "./criu-watch.js";
import { endLayer } from "./layer.js";
import { clearFiles, loadRecord, type SourceRecord, saveRecord } from "./record.js";
import { endSilence } from "./silence.js";
import type { Tools } from "./source.js";

const RUNC_END_TIMEOUT_MS = 30_000;
const HANG_UP_MS = 10_000;
type Empty = Record<string, never>;

/**
 * A CRIU that serves pages goes on until its one client has hung up; where none came yet, we are it. A destination that is
 * cleared hangs up, too; one that has vanished leaves CRIU to TCP's patience, which is longer than ours. Then it is ended, when
 * all it still does is to send: in a round of a pre-copy once it has let go of the tasks (criu/cr-dump.c, cr_pre_dump_finish),
 * as a server at any time, because the freezer has them. While it holds parts of their state, only its connection is ended, and
 * it lets go of them itself (criu/mem.c sends, and waits for answers, while the tasks are seized).
 */
function runcEnded({ id, name, serves, sendsTo }: SourceRecord): Promise<true> {
  const { job } = migrationPaths(id);
  const watch = new CriuWatch(job);
  const begun = performance.now();
  return pollUntil(
    "the end of runc checkpoint",
    async () => {
      if (!(await jobRuns(job)) || (await watch.endOrphan()) !== null) return true;
      const onlySends = serves !== null || !(await isHeld(containerPaths(name).cgroup));
      if (serves !== null && (await listens(serves.port))) await connectAndClose(serves.address, serves.port);
      else if (performance.now() - begun < HANG_UP_MS) return null;
      else if (onlySends) await killJob(job);
      else if (sendsTo !== null) await endConnections(sendsTo.address, sendsTo.port);
      return null;
    },
    { timeoutMs: RUNC_END_TIMEOUT_MS, everyMs: 20 },
  );
}

/** Whether CRIU has any task of the container, by the freezer or by ptrace. */
async function isHeld(cgroup: string): Promise<boolean> {
  if (await isFrozen(cgroup)) return true;
  for (const { pid } of await tasksOf(cgroup)) if (await isTraced(pid)) return true;
  return false;
}

/** Gives the container back to itself: CRIU lets go, then the freezer, then the fence. Needs no turn of its own. */
export async function releaseSource(record: SourceRecord, tools: Tools): Promise<void> {
  const container = containerPaths(record.name);
  await saveRecord({ ...record, step: "aborting" });
  await endLayer(record.id);
  await tools.hooks.release(record.id, "begin", 1);
  if (record.step === "prepared") {
    await runcEnded(record);
  } else {
    // CRIU undoes what it did in the tasks (it holds parts of their state) before it exits.
    await tools.hooks.release(record.id, "post-dump", 1);
    await runcEnded(record);
    const holder = await heldBy(record.name);
    // Nobody's: the mark that was to be written when the migration began to freeze did not come to be.
    if (holder === record.id || (holder === null && (await exists(container.dir)))) {
      if (!(await isPopulated(container.cgroup))) {
        log("error", `${record.name} has no task left after the abort of ${record.id}`);
      } else {
        await giveUnread(record.name);
        await endSilence(container.cgroup, tools.helper);
        await thaw(container.cgroup);
        await tools.helper.openFence(vethName(await loadSpec(record.name)), BRIDGE);
      }
      await clearHeld(record.name);
    }
  }
  if (await exists(container.dir)) await clearMoving(record.name, record.id);
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
  await runcEnded(record).catch((error: unknown) =>
    log("warn", `${record.id}: ${String(error)}; the container is killed without it`),
  );
  if ((await exists(dir)) && (await heldBy(record.name)) === record.id) {
    await destroyContainer(record.name, tools.helper, "go");
  }
  await saveRecord({ ...record, step: "retired" });
  await clearFiles(record.id, tools.helper);
  return {};
}

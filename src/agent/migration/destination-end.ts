/** The ends of the destination side: it runs, or nothing of it is left. All can be repeated. */
import { MwarpError } from "../../errors.js";
import type { AgentParams, AgentResult } from "../../protocol/agent.js";
import { isPopulated, isTraced, killAll, killRestored, thaw } from "../containers/cgroup.js";
import { destroyContainer } from "../containers/lifecycle.js";
import { arrive, clearMoving, setMoving } from "../containers/moving.js";
import { CONTAINER_DEVICE } from "../containers/network.js";
import { clearHeld, heldBy, initPid, loadSpec } from "../containers/store.js";
import { jobRuns, jobStatus, killJob } from "../job.js";
import { log, timed } from "../log.js";
import { containerPaths, type MigrationPaths, migrationPaths } from "../paths.js";
import { pollUntil } from "../process.js";
import { adopt } from "./adopt.js";
import { CriuWatch } from "./criu-watch.js";
import { fetched, fetchFailed } from "./lazy-pages.js";
import { openToLoose } from "./loose-connections.js";
import { clearFiles, type DestinationRecord, destinationRecord, loadRecord, saveRecord } from "./record.js";
import { endSilence } from "./silence.js";
import type { Tools } from "./source.js";

const DETACH_TIMEOUT_MS = 20_000;
const RUNC_END_TIMEOUT_MS = 30_000;
/** What CRIU may take to clear up after tasks that are dead. */
const CRIU_PATIENCE_MS = 2_000;
type Empty = Record<string, never>;

/**
 * After the commit: answers as soon as the container runs. The link comes up before the tasks do, and the announcement
 * goes out before they can speak.
 */
export async function resume(params: AgentParams<"destination.resume">, tools: Tools): Promise<Empty> {
  const record = await destinationRecord(params.migration, "held", "resuming", "resumed", "finished");
  if (record.step === "resumed" || record.step === "finished") return {};
  const { cgroup, netns } = containerPaths(record.name);
  const spec = await loadSpec(record.name);
  // A repeated call may meet tasks that already run: their words are theirs by then.
  if (record.step === "held") await pokeTasks(params, record, tools);
  await saveRecord({ ...record, step: "resuming" });
  if (await fetchFailed(migrationPaths(record.id))) {
    // Its pages stopped coming at the very commit: there is nothing to let go, as `finish` will say.
    await tools.hooks.release(record.id, "pre-resume", 0);
    await handOver(record);
    return {};
  }
  await endSilence(cgroup, tools.helper);
  await openToLoose(migrationPaths(record.id).images, spec, tools.helper);
  await tools.hooks.release(record.id, "pre-resume", 0);
  await thaw(cgroup);
  await tools.helper
    .announce(netns, CONTAINER_DEVICE, spec.network)
    .catch((error: unknown) => log("warn", `${record.name}: no gratuitous ARP: ${String(error)}`));
  await timed("detach", () => detached(record));
  if (params.connections.length > 0)
    await tools.helper
      .wakePeers(netns, params.connections)
      .catch((error: unknown) => log("warn", `${record.name}: its peers were not told: ${String(error)}`));
  await handOver(record);
  return {};
}

/** It is its own again, but neither started again nor checked before the migration is through (`finish`). */
async function handOver(record: DestinationRecord): Promise<void> {
  // It runs: no want of room for such a file may be in the way of that.
  const lacking = (error: unknown): void =>
    log("warn", `${record.name}: what is known of its restarts and health may be wrong: ${String(error)}`);
  await arrive(record.name).catch(lacking);
  await setMoving(record.name, record.id).catch(lacking);
  await clearHeld(record.name);
  await saveRecord({ ...record, step: "resumed" });
}

async function pokeTasks(
  params: AgentParams<"destination.resume">,
  record: DestinationRecord,
  tools: Tools,
): Promise<void> {
  for (const task of record.tasks) {
    const pokes = params.pokes
      .filter((poke) => poke.nsPid === task.nsPid)
      .map((poke) => ({ address: poke.address, value: BigInt(`0x${poke.valueHex.replace(/^0x/, "")}`) }));
    if (pokes.length > 0) await tools.helper.poke(task.pid, pokes);
  }
}

/** Waits until CRIU has let go of every task: only then do they run. */
async function detached(record: DestinationRecord): Promise<void> {
  await pollUntil(
    "the end of CRIU's hold",
    async () => {
      for (const { pid } of record.tasks) if (await isTraced(pid)) return null;
      return true;
    },
    { timeoutMs: DETACH_TIMEOUT_MS, everyMs: 1 },
  );
}

/** Once runc is through and all pages are here, the images are freed. A runc that failed changes nothing: the container runs. */
export async function finish(
  params: AgentParams<"destination.finish">,
  signal: AbortSignal,
  tools: Tools,
): Promise<AgentResult<"destination.finish">> {
  const record = await destinationRecord(params.migration, "resumed", "finished");
  const paths = migrationPaths(record.id);
  if (record.lost !== null) return { outcome: "lost", reason: record.lost };
  if (record.step === "resumed") {
    const end = await fetched(paths, params.source, signal);
    if (end !== null) {
      // Also when the keeper itself was killed and could not do it: what would read zeros must not run.
      await killAll(containerPaths(record.name).cgroup);
      await killJob(paths.lazyPages);
      await runcEnds(paths);
      await clearMoving(record.name, record.id);
      await saveRecord({ ...record, step: "finished", lost: end.lost });
      await clearFiles(record.id, tools.helper);
      return { outcome: "lost", reason: end.lost };
    }
    const status = await runcEnds(paths);
    if (status !== 0) {
      log("error", `${record.id}: ${record.runtime} restore ended with ${status} after the commit`);
      await adopt(record);
    }
    await clearMoving(record.name, record.id);
    await saveRecord({ ...record, step: "finished" });
    await clearFiles(record.id, tools.helper);
  }
  const pid = (await initPid(record.name)) ?? record.tasks.find((task) => task.nsPid === 1)?.pid;
  if (pid === undefined) throw new MwarpError("MWARP_E_RUNTIME", `${record.name} has no init`);
  return { outcome: "runs", pid };
}

const runcEnds = (paths: MigrationPaths): Promise<number> =>
  pollUntil("the end of runc restore", () => jobStatus(paths.job), { timeoutMs: RUNC_END_TIMEOUT_MS });

/** Ends everything of a destination that must not run. */
export async function discardDestination(record: DestinationRecord, tools: Tools): Promise<void> {
  const paths = migrationPaths(record.id);
  const container = containerPaths(record.name);
  await saveRecord({ ...record, step: "aborting" });
  // A container of this name may be another's.
  if ((await heldBy(record.name)) === record.id) {
    // Killed before CRIU is let go: no task may reach user space. One that CRIU makes after this the hook kills.
    await killRestored(container.cgroup);
    for (const stage of ["begin", "pre-resume"] as const) await tools.hooks.release(record.id, stage, 1);
    const watch = new CriuWatch(paths.job);
    const begun = performance.now();
    await jobEnds(paths.job, async () => {
      await killRestored(container.cgroup);
      await watch.endOrphan();
      // CRIU waits for init (criu/cr-restore.c, restore_root_task), and init for its children, which are dead and which CRIU traces.
      const late = performance.now() - begun > CRIU_PATIENCE_MS;
      if (late && !(await isPopulated(container.cgroup))) await killJob(paths.job);
    });
    await destroyContainer(record.name, tools.helper, "go");
  }
  // They may wait for a dump that never comes, or for tasks that are no more.
  for (const job of [paths.pageServer, paths.lazyPages]) {
    await jobEnds(job, () => killJob(job));
    // What the job was to run may have outlived it.
    await killJob(job);
  }
  await saveRecord({ ...record, step: "aborted" });
  await clearFiles(record.id, tools.helper);
}

/** Waits for a job that goes on until `stop` finds what to kill. */
async function jobEnds(dir: string, stop: () => Promise<void>): Promise<void> {
  await pollUntil(
    `the end of ${dir}`,
    async () => {
      if (!(await jobRuns(dir))) return true;
      await stop();
      return null;
    },
    { timeoutMs: RUNC_END_TIMEOUT_MS, everyMs: 20 },
  );
}

/** Before the commit. A migration this VM does not know has nothing to undo. */
export async function abortDestination(
  params: AgentParams<"destination.abort">,
  tools: Tools,
): Promise<Empty> {
  const record = await loadRecord(params.migration);
  if (record?.side !== "destination" || record.step === "aborted") return {};
  if (record.step === "resuming" || record.step === "resumed" || record.step === "finished") {
    throw new MwarpError("MWARP_E_PROTOCOL", `migration ${record.id} is committed: it cannot be aborted`);
  }
  await discardDestination(record, tools);
  return {};
}

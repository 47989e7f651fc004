/** The source side of a migration, up to the dump. What ends it, either way, is in source-end.ts. */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { MwarpError } from "../../errors.js";
import {
  type AgentParams,
  type AgentResult,
  type PageRoute,
  type PageRun,
  SLOWEST_BYTES_PER_MS,
  type Task,
  type Toolset,
} from "../../protocol/agent.js";
import { freeze, memoryBytes, subgroups, tasksOf } from "../containers/cgroup.js";
import { endChecks } from "../containers/health-check.js";
import type { Keeper } from "../containers/keeper.js";
import { noteFreeze, setMoving } from "../containers/moving.js";
import { bridgeAddress, vethName } from "../containers/network.js";
import { flushLog } from "../containers/shim.js";
import { loadSpec, setHeld } from "../containers/store.js";
import { takeUnread } from "../containers/terminal.js";
import type { Helper } from "../helper.js";
import type { Hooks } from "../hooks.js";
import { jobStatus, killJob, startJob } from "../job.js";
import { kernelFacts } from "../kernel/facts.js";
import { type TaskPlace, taskRoots } from "../kernel/roots.js";
import { timed } from "../log.js";
import type { RequestContext } from "../methods.js";
import { containerPaths, migrationPaths } from "../paths.js";
import { pollUntil } from "../process.js";
import { toolEnvironment } from "../quick-tools.js";
import { runtimeOf } from "../runtimes/runtime.js";
import type { DownStream } from "../streams.js";
import { freePort, listens } from "../tcp-port.js";
import { checkpointCommand } from "./command-lines.js";
import { failureDetails } from "./criu-log.js";
import { CriuWatch } from "./criu-watch.js";
import { holdImages, startHolder } from "./held-images.js";
import { createParent, isLarge, linkParentTasks, listImages, sendImages } from "./images.js";
import { mustBeFree } from "./inspect.js";
import { knowLarge, sendLayer, startLayer } from "./layer.js";
import { keepLoose } from "./loose-connections.js";
import { keepDatagrams } from "./loose-datagrams.js";
import { byTask } from "./pages.js";
import { loadRecord, pruneRecords, type SourceRecord, saveRecord, sourceRecord } from "./record.js";
import { writeOutShared } from "./shared-files.js";
import { silence } from "./silence.js";
import { releaseSource } from "./source-end.js";
import { stageable } from "./stageable.js";
import { endForgottenDumps, mustStandBy, untilStandingBy, wasStarted } from "./stand-by.js";
import { keepTraits } from "./traits.js";

const DUMP_TIMEOUT_MS = 120_000;
const SERVE_TIMEOUT_MS = 20_000;
type Empty = Record<string, never>;

export interface Tools {
  readonly helper: Helper;
  readonly hooks: Hooks;
  readonly keeper: Keeper;
}

/**
 * From here on the container is not started again and not checked. To be called with its turn, as neither must be under way.
 * `MWARP_E_NOT_RUNNING`, `MWARP_E_BUSY`, `MWARP_E_CONTAINER_UNKNOWN`; a repeated call prepares anew.
 */
export async function prepare(params: AgentParams<"source.prepare">): Promise<AgentResult<"source.prepare">> {
  const { migration: id, name } = params;
  const { runtime } = await mustBeFree(name);
  const known = await loadRecord(id);
  if (known && !(known.side === "source" && known.step === "prepared")) {
    throw new MwarpError("MWARP_E_PROTOCOL", `migration ${id} is already ${known.step} in this VM`);
  }
  const paths = migrationPaths(id);
  if (known) await killJob(paths.job);
  await endForgottenDumps(name);
  await rm(paths.verdict("begin"), { force: true });
  for (const dir of [paths.images, paths.work]) await mkdir(dir, { recursive: true });
  await createParent(paths);
  const tasks = await tasksOf(containerPaths(name).cgroup);
  const record: SourceRecord = {
    ...{ id, name, runtime, tasks, side: "source", step: "prepared" },
    ...{ serves: null, sendsTo: null },
  };
  await saveRecord(record);
  await setMoving(name, id);
  await pruneRecords();
  await startLayer(id, await loadSpec(name));
  if (params.tools === "stock") return { descriptors: null };
  await startDump(record, { kind: "none" }, params.tools);
  startHolder(id);
  return { descriptors: await runtimeOf(runtime).externalDescriptors(name) };
}

async function startDump(record: SourceRecord, pages: PageRoute, toolset: Toolset): Promise<string[]> {
  const paths = migrationPaths(record.id);
  const command = checkpointCommand(record, pages);
  await startJob(paths.job, command, toolEnvironment(toolset, paths.images));
  return command;
}

/** Of a running container, whether or not a migration has it. `MWARP_E_CONTAINER_UNKNOWN`. */
export async function stageableMemory(
  { name }: AgentParams<"source.stageable">,
  tools: Tools,
): Promise<AgentResult<"source.stageable">> {
  await loadSpec(name);
  const tasks = await tasksOf(containerPaths(name).cgroup);
  return { mappings: await timed("stageable", () => stageable(tasks, tools.helper)) };
}

/** `MWARP_E_DUMP` with the error lines of runc and CRIU when they have failed. */
export async function standBy(
  params: AgentParams<"source.standBy">,
  signal: AbortSignal,
  tools: Tools,
): Promise<Empty> {
  const record = await sourceRecord(params.migration, "prepared");
  const watch = new CriuWatch(migrationPaths(record.id).job);
  const ended = () => dumpFailure(record, tools, watch);
  await timed("standing by", () => untilStandingBy(record.id, tools.hooks, { signal, ended }));
  return {};
}

/** The link goes down first: what the container sends after the freeze would be lost on its peer's window. */
export async function freezeSource(
  params: AgentParams<"source.freeze">,
  tools: Tools,
): Promise<AgentResult<"source.freeze">> {
  const record = await sourceRecord(params.migration, "prepared", "frozen");
  const container = containerPaths(record.name);
  const spec = await loadSpec(record.name);
  await mustStandBy(record.id, record.name, tools.hooks);
  // On file before anything is done: whatever becomes of this agent, an abort then undoes all of it.
  await saveRecord({ ...record, step: "frozen" });
  try {
    await setHeld(record.name, record.id);
    // An agent that was killed after `prepare` may have left one.
    await endChecks(record.name);
    await tools.helper.closeFence(vethName(spec));
    await timed("freeze", () => freeze(container.cgroup));
    await noteFreeze(record.name);
    await silence(container.cgroup, tools.helper);
    await takeUnread(spec);
    if ((await subgroups(container.cgroup)) > 0)
      throw new MwarpError("MWARP_E_UNSUPPORTED", `${record.name} has made control groups of its own`);
  } catch (error) {
    await releaseSource({ ...record, step: "frozen" }, tools);
    throw error;
  }
  const tasks = await tasksOf(container.cgroup);
  await saveRecord({ ...record, step: "frozen", tasks });
  return { tasks };
}

/** Makes every page "clean": what CRIU then finds clean it takes to be in the parent. */
async function clearSoftDirty(tasks: readonly Task[]): Promise<void> {
  for (const { pid } of tasks) await writeFile(`/proc/${pid}/clear_refs`, "4");
}

/** `MWARP_E_DUMP` with CRIU's error lines; the container then runs on. */
export async function dump(
  params: AgentParams<"source.dump">,
  context: RequestContext,
  tools: Tools,
): Promise<AgentResult<"source.dump">> {
  const frozen = await sourceRecord(params.migration, "frozen");
  const { pages, tools: toolset } = params;
  const serves = pages.kind === "lazy" ? { address: bridgeAddress(), port: await freePort() } : null;
  const sendsTo = pages.kind === "server" ? pages.server : null;
  const record: SourceRecord = { ...frozen, step: "dumping", serves, sendsTo };
  const paths = migrationPaths(record.id);
  await saveRecord(record);
  if (pages.kind === "none") {
    await linkParentTasks(paths, record.tasks);
    await timed("clear_refs", () => clearSoftDirty(record.tasks));
  }
  const command =
    toolset === "quick" && (await wasStarted(paths))
      ? checkpointCommand(record, pages)
      : await startDump(record, pages, toolset);
  if (toolset === "quick") await tools.hooks.release(record.id, "begin", 0);
  // Meanwhile CRIU works.
  await timed("traits", () => keepTraits(paths.images, record.tasks, tools.helper));
  const watch = new CriuWatch(paths.job);
  const bulk = pages.kind === "server" ? await memoryBytes(containerPaths(record.name).cgroup) : 0;
  const hook = await timed("checkpoint", () =>
    tools.hooks.wait(record.id, "post-dump", {
      signal: context.signal,
      timeoutMs: DUMP_TIMEOUT_MS + bulk / SLOWEST_BYTES_PER_MS,
      ended: () => dumpFailure(record, tools, watch),
    }),
  );
  if (hook.freezeErrno !== 0) {
    await releaseSource(record, tools);
    throw new MwarpError("MWARP_E_DUMP", `the container could not be frozen (errno ${hook.freezeErrno})`);
  }
  await saveRecord({ ...record, step: "dumped" });
  const spec = await loadSpec(record.name);
  await timed("loose connections", () => keepLoose(paths.images, record.tasks, spec));
  await timed("loose datagrams", () => keepDatagrams(paths.images, record.tasks, spec, tools.helper));
  const all = await listImages(paths.images);
  const large = pages.kind === "none" ? all.filter(isLarge) : [];
  const files = all.filter((file) => !large.includes(file));
  const roots = pages.kind === "none" ? await timed("roots", () => rootsOf(record.tasks)) : [];
  await timed("images", () => sendImages(paths.images, files, context.down));
  return { files, large, roots, command, spent: hook.spent };
}

/** Image files that the dump has kept back. */
export async function largeImages(
  { migration, files }: AgentParams<"source.images">,
  down: DownStream,
): Promise<Empty> {
  const { id } = await sourceRecord(migration, "dumped");
  await sendImages(migrationPaths(id).images, files, down);
  return {};
}

export async function holdLargeImages({
  migration,
  files,
}: AgentParams<"source.holdImages">): Promise<AgentResult<"source.holdImages">> {
  const { id } = await sourceRecord(migration, "dumped");
  return timed("hold images", () => holdImages(id, "read", files));
}

/**
 * Post-copy: CRIU serves once its post-dump hook has returned (criu/cr-dump.c, cr_dump_finish). The freezer holds the tasks, and
 * CRIU leaves them be (see checkpointCommand), so until the commit this can be taken back like any dump.
 */
export async function servePages(
  params: AgentParams<"source.servePages">,
  context: RequestContext,
  tools: Tools,
): Promise<AgentResult<"source.servePages">> {
  const record = await sourceRecord(params.migration, "dumped");
  const { serves } = record;
  if (serves === null) throw new MwarpError("MWARP_E_PROTOCOL", `migration ${record.id} has no lazy dump`);
  await tools.hooks.release(record.id, "post-dump", 0);
  const watch = new CriuWatch(migrationPaths(record.id).job);
  await pollUntil(
    "CRIU's page server",
    async () => {
      const failure = await dumpFailure(record, tools, watch);
      if (failure !== null) throw failure;
      return (await listens(serves.port)) ? true : null;
    },
    { timeoutMs: SERVE_TIMEOUT_MS, everyMs: 10, signal: context.signal },
  );
  return serves;
}

/** Page-table roots of frozen tasks. */
export async function rootsOf(tasks: readonly Task[]): Promise<AgentResult<"source.dump">["roots"]> {
  const roots = taskRoots(
    await kernelFacts(),
    tasks.map((task) => task.pid),
  );
  return tasks.map((task) => ({ ...task, ...(roots.get(task.pid) as TaskPlace) }));
}

async function dumpFailure(record: SourceRecord, tools: Tools, watch: CriuWatch): Promise<Error | null> {
  const paths = migrationPaths(record.id);
  const status = (await jobStatus(paths.job)) ?? (await watch.endOrphan());
  if (status === null) return null;
  const details = await failureDetails(paths.job, join(paths.work, "dump.log"));
  await releaseSource(record, tools);
  return new MwarpError("MWARP_E_DUMP", `${record.runtime} checkpoint ended with ${status}`, { details });
}

export async function readPages(
  params: AgentParams<"source.readPages">,
  context: RequestContext,
  tools: Tools,
): Promise<Empty> {
  const record = await sourceRecord(params.migration, "frozen", "dumping", "dumped");
  for (const { pid, runs } of byTask(params.runs satisfies PageRun[], record.tasks)) {
    await tools.helper.readPages(pid, runs, (data) => context.down.write(data));
  }
  return {};
}

/** The container's own files: as they are while it runs, or as the frozen one has left them. */
export async function layer(
  params: AgentParams<"source.layer">,
  context: RequestContext,
): Promise<AgentResult<"source.layer">> {
  const steps =
    params.pass === "first" ? (["prepared"] as const) : (["frozen", "dumping", "dumped"] as const);
  const { name } = await sourceRecord(params.migration, ...steps);
  const spec = await loadSpec(name);
  if (params.pass !== "first") await flushLog(name);
  await writeOutShared(spec);
  return sendLayer(params, spec, context);
}

/** What the destination has got of large files in the first pass. */
export async function known(
  params: AgentParams<"source.known">,
  context: RequestContext,
): Promise<AgentResult<"source.known">> {
  await sourceRecord(params.migration, "prepared");
  return knowLarge(params, context);
}

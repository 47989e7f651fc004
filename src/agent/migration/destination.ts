/** The destination side of a migration, up to the held restore. What ends it is in destination-end.ts. */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { MwarpError } from "../../errors.js";
import {
  type AgentParams,
  type AgentResult,
  type PageServer,
  SLOWEST_BYTES_PER_MS,
  type Toolset,
} from "../../protocol/agent.js";
import type { StagedMapping } from "../../protocol/stage.js";
import { mountRoot } from "../containers/bundle.js";
import { tasksOf } from "../containers/cgroup.js";
import { createContainer } from "../containers/lifecycle.js";
import { checkMovingFiles } from "../containers/moving.js";
import { claimName, loadSpec } from "../containers/store.js";
import { setNetworkSysctls } from "../containers/sysctls.js";
import { giveUnread, stdioOf } from "../containers/terminal.js";
import { exists } from "../files.js";
import { jobStatus, type Stdio, startShim } from "../job.js";
import { log, timed } from "../log.js";
import type { RequestContext } from "../methods.js";
import { containerPaths, HANDOVER_LIBRARY, migrationPaths } from "../paths.js";
import { pollUntil } from "../process.js";
import { toolEnvironment } from "../quick-tools.js";
import { runtimeOf } from "../runtimes/runtime.js";
import { keepForAdoption } from "./adopt.js";
import { lazyPagesCommand, restoreCommand } from "./command-lines.js";
import { failureDetails } from "./criu-log.js";
import { CriuWatch } from "./criu-watch.js";
import { discardDestination } from "./destination-end.js";
import { holdImages as holdFiles, startHolder } from "./held-images.js";
import { makeHugeRoom } from "./huge-room.js";
import { pagesBytes, receiveImages } from "./images.js";
import { receiveLayer } from "./layer-incoming.js";
import { fetchesOrHasAll, holdFaults, startLazyPages } from "./lazy-pages.js";
import { admitLoose } from "./loose-connections.js";
import { deliverDatagrams } from "./loose-datagrams.js";
import { heldBytes, pageServerEnds } from "./page-server.js";
import { byTask } from "./pages.js";
import { type DestinationRecord, destinationRecord, loadRecord, pruneRecords, saveRecord } from "./record.js";
import { silence } from "./silence.js";
import { rootsOf, type Tools } from "./source.js";
import { linkParent, readStaging, stageEnvironment, whyNotStaged } from "./staging.js";
import { showRoot, untilStandingBy, wasStarted } from "./stand-by.js";
import { giveTraits } from "./traits.js";

/** A restore without page contents takes seconds, also under emulation. */
const RESTORE_TIMEOUT_MS = 60_000;
/** CRIU stands by; the library in it begins before CRIU's own code, and gives up after a minute (native/criu/stage.c). */
const STAGE_BEGIN_MS = 5_000;
const STAGE_TIMEOUT_MS = 90_000;
type Empty = Record<string, never>;

/** Everything that can be made while the container still runs elsewhere. `MWARP_E_NAME_TAKEN`. */
export async function prepare(
  params: AgentParams<"destination.prepare">,
  signal: AbortSignal,
  tools: Tools,
): Promise<Empty> {
  const { migration: id, spec } = params;
  if (await loadRecord(id)) throw new MwarpError("MWARP_E_PROTOCOL", `migration ${id} is known here already`);
  const paths = migrationPaths(id);
  const record: DestinationRecord = {
    id,
    name: spec.name,
    runtime: spec.runtime,
    side: "destination",
    step: "preparing",
    tasks: [],
    pagesFrom: null,
    lost: null,
  };
  for (const dir of [paths.images, paths.work]) await mkdir(dir, { recursive: true });
  // On file before anything is made: whatever happens to this agent, an abort finds it.
  await saveRecord(record);
  try {
    await claimName(spec, { migration: id });
    await Promise.all([
      createContainer(spec, "elsewhere").then(() => setNetworkSysctls(spec)),
      makeHugeRoom(params.hugeBytes),
    ]);
    if (params.tools === "quick" && params.descriptors !== null)
      await standBy(record, params.descriptors, params.stage, { signal, tools });
  } catch (error) {
    await discardDestination(record, tools);
    throw error;
  }
  await saveRecord({ ...record, step: "prepared" });
  await pruneRecords();
  return {};
}

/** The runtime reads what the descriptors are before it starts CRIU; the images bring the same file along. */
async function standBy(
  record: DestinationRecord,
  descriptors: readonly string[],
  stage: readonly StagedMapping[],
  { signal, tools }: { signal: AbortSignal; tools: Tools },
): Promise<void> {
  const paths = migrationPaths(record.id);
  await writeFile(join(paths.images, "descriptors.json"), JSON.stringify(descriptors), { mode: 0o600 });
  startHolder(record.id);
  const stages = stage.length > 0 && (await whyNotStaged()) === null;
  await startRestore(record, null, "quick", stages ? await stageEnvironment(paths, stage) : {});
  const watch = new CriuWatch(paths.job);
  const ended = () => restoreFailure(record, tools, watch);
  await timed("standing by", () => untilStandingBy(record.id, tools.hooks, { signal, ended }));
}

/** For the library in CRIU (native/criu/terminal.c). Stock tools do not know of it. */
const terminalEnvironment = (stdio: Stdio): Readonly<Record<string, string>> =>
  stdio === "terminal" ? { MWARP_TERMINAL: "1", MWARP_HANDOVER: HANDOVER_LIBRARY } : {};

async function startRestore(
  record: DestinationRecord,
  pagesFrom: PageServer | null,
  toolset: Toolset,
  environment: Readonly<Record<string, string>> = {},
): Promise<string[]> {
  const paths = migrationPaths(record.id);
  const container = containerPaths(record.name);
  const stdio = stdioOf(await loadSpec(record.name));
  const command = restoreCommand(record, container, { pagesFrom, stdio });
  for (const stale of [container.pid, container.exit]) await rm(stale, { force: true });
  const inside = runtimeOf(record.runtime).restoresInsideGroup ? {} : { MWARP_CGROUP: container.cgroup };
  const own = { ...toolEnvironment(toolset, paths.images), ...terminalEnvironment(stdio), ...inside };
  await startShim(container.dir, paths.job, command, { stdio, added: { ...own, ...environment } });
  return command;
}

/** Memory that cannot be staged is populated as ever. It is an error only when CRIU has failed, which then has no container to restore. */
export async function staged(
  params: AgentParams<"destination.staged">,
  signal: AbortSignal,
  tools: Tools,
): Promise<AgentResult<"destination.staged">> {
  const record = await destinationRecord(params.migration, "prepared");
  const paths = migrationPaths(record.id);
  if (!(await exists(paths.stage))) return { pages: 0, reason: await whyNotStaged() };
  const watch = new CriuWatch(paths.job);
  const since = performance.now();
  const state = await timed("staging", () =>
    pollUntil(
      "the memory that is staged",
      async () => {
        const failure = await restoreFailure(record, tools, watch);
        if (failure !== null) throw failure;
        const staging = await readStaging(paths);
        if (staging === null && performance.now() - since > STAGE_BEGIN_MS) return "not begun";
        return staging === null || staging.outcome === 0 ? null : staging;
      },
      { timeoutMs: STAGE_TIMEOUT_MS, everyMs: 20, signal },
    ),
  );
  if (state === "not begun") return { pages: 0, reason: `CRIU did not load ${HANDOVER_LIBRARY}` };
  if (state.outcome > 0) return { pages: state.stagedPages, reason: null };
  return { pages: 0, reason: `memory could not be faulted in (errno ${-state.outcome})` };
}

export async function images(
  params: AgentParams<"destination.images">,
  context: RequestContext,
): Promise<Empty> {
  const record = await destinationRecord(params.migration, "prepared");
  const paths = migrationPaths(record.id);
  await receiveImages(paths.images, params.files, context.up);
  await linkParent(paths, params.files);
  return {};
}

export async function holdImages({
  migration,
  files,
}: AgentParams<"destination.holdImages">): Promise<AgentResult<"destination.holdImages">> {
  const { id } = await destinationRecord(migration, "prepared");
  return timed("hold images", () => holdFiles(id, "make", files));
}

/**
 * The container's own files, before the root is mounted over the writable layer. Where CRIU stands by it sees the root once all of them
 * have come.
 */
export async function layer(
  params: AgentParams<"destination.layer">,
  context: RequestContext,
  tools: Tools,
): Promise<Empty> {
  const record = await destinationRecord(params.migration, "prepared");
  const spec = await loadSpec(record.name);
  await receiveLayer(spec, params, context, tools.helper);
  if (params.pass === "first") return {};
  await checkMovingFiles(record.name);
  const mount = (): Promise<unknown> => mountRoot(spec, tools.helper);
  if (await wasStarted(migrationPaths(record.id))) await showRoot(record, tools.helper, mount);
  else await mount();
  return {};
}

/** `MWARP_E_RESTORE` with CRIU's error lines; nothing is left of the container here then. */
export async function restore(
  params: AgentParams<"destination.restore">,
  context: RequestContext,
  tools: Tools,
): Promise<AgentResult<"destination.restore">> {
  const { pagesFrom, tools: toolset } = params;
  const prepared = await destinationRecord(params.migration, "prepared");
  const record: DestinationRecord = { ...prepared, step: "restoring", pagesFrom };
  const paths = migrationPaths(record.id);
  const container = containerPaths(record.name);
  await saveRecord(record);
  await pageServerEnds(paths, context.signal);
  const held = await heldBytes(paths);
  const lazy = pagesFrom === null ? [] : [lazyPagesCommand(paths, pagesFrom)];
  for (const command of lazy) await startLazyPages(paths, container.cgroup, command, context.signal);
  // Before any of its sockets is made; the group is runc's to make, and takes one that is there.
  await mkdir(container.cgroup, { recursive: true });
  await silence(container.cgroup, tools.helper);
  const watch = new CriuWatch(paths.job);
  const command = await tellRestore(record, toolset, tools);
  const hook = await timed("restore", () =>
    tools.hooks.wait(record.id, "pre-resume", {
      signal: context.signal,
      timeoutMs: RESTORE_TIMEOUT_MS + held / SLOWEST_BYTES_PER_MS,
      ended: () => restoreFailure(record, tools, watch),
    }),
  );
  if (hook.freezeErrno !== 0) {
    await discardDestination(record, tools);
    throw new MwarpError("MWARP_E_RESTORE", `the container could not be frozen (errno ${hook.freezeErrno})`);
  }
  if (pagesFrom !== null) await holdFaults(paths, context.signal);
  try {
    const spec = await loadSpec(record.name);
    await timed("loose connections", () => admitLoose(paths.images, spec, hook.initPid, tools.helper));
    await deliverDatagrams(paths.images, spec, tools.helper);
  } catch (error) {
    await discardDestination(record, tools);
    throw error;
  }
  const tasks = await tasksOf(container.cgroup);
  await giveTraits(paths.images, tasks, tools.helper);
  if (await exists(container.input)) await giveUnread(record.name);
  await keepForAdoption(record, hook.initPid);
  await saveRecord({ ...record, step: "held", tasks });
  const roots = await timed("roots", () => rootsOf(tasks));
  return {
    roots,
    pagesBytes: await pagesBytes(paths.images),
    commands: [...lazy, command],
    spent: hook.spent,
    handedPages: (await readStaging(paths))?.handedPages ?? 0,
  };
}

/** Starts the runtime, or lets one go on that stands by. */
async function tellRestore(record: DestinationRecord, toolset: Toolset, tools: Tools): Promise<string[]> {
  const standsBy = await wasStarted(migrationPaths(record.id));
  if (toolset === "quick") await tools.hooks.release(record.id, "begin", 0);
  if (!standsBy) return startRestore(record, record.pagesFrom, toolset);
  const stdio = stdioOf(await loadSpec(record.name));
  return restoreCommand(record, containerPaths(record.name), { pagesFrom: record.pagesFrom, stdio });
}

async function restoreFailure(
  record: DestinationRecord,
  tools: Tools,
  watch: CriuWatch,
): Promise<Error | null> {
  const paths = migrationPaths(record.id);
  const status = (await jobStatus(paths.job)) ?? (await watch.endOrphan());
  if (status === null) return null;
  const details = await failureDetails(paths.job, join(paths.work, "restore.log"));
  await discardDestination(record, tools).catch((error: unknown) =>
    log("error", `${record.id}: left behind: ${String(error)}`),
  );
  return new MwarpError("MWARP_E_RESTORE", `${record.runtime} restore ended with ${status}`, { details });
}

export async function pagesCome(
  params: AgentParams<"destination.pagesCome">,
  signal: AbortSignal,
): Promise<Empty> {
  const record = await destinationRecord(params.migration, "held");
  if (record.pagesFrom === null)
    throw new MwarpError("MWARP_E_PROTOCOL", `the pages of migration ${record.id} came with its images`);
  await fetchesOrHasAll(migrationPaths(record.id), record.pagesFrom, signal);
  return {};
}

export async function populate(
  params: AgentParams<"destination.populate">,
  tools: Tools,
): Promise<{ pages: number }> {
  const record = await destinationRecord(params.migration, "held");
  let pages = 0;
  await timed("populate", async () => {
    for (const { pid, runs } of byTask(params.runs, record.tasks)) {
      pages += await tools.helper.populate(pid, runs);
    }
  });
  return { pages };
}

export async function writePages(
  params: AgentParams<"destination.writePages">,
  context: RequestContext,
  tools: Tools,
): Promise<Empty> {
  const record = await destinationRecord(params.migration, "held");
  for (const { pid, runs } of byTask(params.runs, record.tasks)) {
    await tools.helper.writePages(pid, runs, context.up);
  }
  return {};
}

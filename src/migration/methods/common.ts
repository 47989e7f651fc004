/**
 * The steps that the methods share. Each takes the result of the step before it, so a step cannot be called out of
 * order; each talks to one agent or carries bytes from one to the other.
 */

import { madeLinks } from "../../criu/links.js";
import { restartTimers } from "../../criu/timers.js";
import { MwarpError } from "../../errors.js";
import {
  type AgentResult,
  type PageRoute,
  type PageServer,
  type Poke,
  SLOWEST_BYTES_PER_MS,
  type TaskRoot,
  type Toolset,
} from "../../protocol/agent.js";
import type { Connection } from "../../protocol/connection.js";
import type { GuestInfo } from "../../protocol/guest-info.js";
import type { ImageFile } from "../../protocol/images.js";
import type { MigrationMethod, MigrationRequest } from "../../protocol/migration.js";
import type { StagedMapping } from "../../protocol/stage.js";
import type { WarpTable } from "../../warp/table.js";
import { ChunkCollector, inChunks } from "../chunks.js";
import type { MigrationClock } from "../clock.js";
import type { DeadMan } from "../dead-man.js";
import type { Checked } from "../preflight.js";
import type { Tally } from "../report.js";
import { deliverRootfs } from "../rootfs.js";
import { awaitStaged, chooseStage } from "../staging.js";
import { timedAgent } from "../timed-agent.js";
import { sendLayerAhead } from "./layer.js";

export interface StepContext {
  readonly id: string;
  readonly checked: Checked;
  readonly clock: MigrationClock;
  /** Aborted when the user cancels or the time limit passes; obeyed up to the commit. */
  readonly signal: AbortSignal;
  readonly request: MigrationRequest;
  /** Counts for the report. */
  readonly tally: Tally;
  readonly onFreeze: () => void;
  readonly onNote: (message: string) => void;
  /** Acts should this process die. */
  readonly deadMan: Pick<DeadMan, "armed">;
  /** Words to write into the restored tasks before they run; known once the skeleton was rewritten. */
  pokes: Poke[];
  /** What the destination has faulted in before the freeze. */
  staged: readonly StagedMapping[];
  /** Whose peers are asked to send again once the tasks run; known from the dump. */
  connections: readonly Connection[];
  /** Whether the destination has the first pass of the container's files. */
  layerAhead: boolean;
  /** What the committing stun found; null for methods without one. */
  table: WarpTable | null;
}

/** For a VM whose memory is not known to the host. */
const MOST_BYTES_UNKNOWN = 2 * 1024 ** 3;

export type Tasks = AgentResult<"source.freeze">["tasks"];
export interface Dumped {
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Those that the source has kept back. */
  readonly large: readonly ImageFile[];
  readonly roots: readonly TaskRoot[];
}

/** Time limits of single requests, ms: generous, because they only have to end a hang. */
export const limits = {
  quick: 20_000,
  prepare: 60_000,
  dump: 120_000,
  transfer: 300_000,
  restore: 120_000,
} as const;

/** What is to be added to a limit of a request that moves the container's page contents, ms. */
export const bulkMs = ({ checked: { usage } }: StepContext): number =>
  (Math.max(usage.anonymousBytes, usage.memoryBytes) + usage.swapBytes) / SLOWEST_BYTES_PER_MS;

/** What both sides need before the freeze, made while the container still runs. */
export async function prepareBoth(context: StepContext): Promise<void> {
  const { checked, id, signal } = context;
  const options = { signal, timeoutMs: limits.prepare };
  const { spec } = checked.usage;
  // The other methods are as stock tools have them, which make no room.
  const hugeBytes = context.request.method === "warp" ? checked.usage.hugeBytes : 0;
  const tools = toolset(context);
  const toSource = { migration: id, name: spec.name, tools };
  const { descriptors } = await checked.sourceAgent.call("source.prepare", toSource, options);
  await deliverRootfs(checked.destinationAgent, spec.rootfs, checked.rootfsFile, signal);
  const stage = tools === "quick" ? await chooseStage(context) : [];
  // Until the destination has what is to be staged.
  if (tools === "quick") context.tally.strategy = "eager";
  const toDestination = { migration: id, spec, hugeBytes, tools, descriptors, stage: [...stage] };
  await checked.destinationAgent.call("destination.prepare", toDestination, options);
  await Promise.all([
    tools === "quick" ? checked.sourceAgent.call("source.standBy", { migration: id }, options) : null,
    stage.length > 0 ? awaitStaged(context, stage) : null,
    // Rounds come first where there are any: what the container changes during them would go twice.
    context.request.method === "precopy" ? null : sendLayerAhead(context),
  ]);
  await context.deadMan.armed();
}

export async function freezeSource(context: StepContext): Promise<Tasks> {
  context.clock.freezeAsked();
  context.onFreeze();
  const { tasks } = await context.checked.sourceAgent.call(
    "source.freeze",
    { migration: context.id },
    { signal: context.signal, timeoutMs: limits.quick },
  );
  return tasks;
}

/** What a guest may send at a time: no more than it has memory, which is what images and writable layers lie in. */
export const mostBytes = ({ checked }: StepContext): number =>
  checked.layouts?.source.bytes ?? MOST_BYTES_UNKNOWN;

const toolset = ({ request, checked: { sourceInfo, destinationInfo } }: StepContext): Toolset =>
  chooseTools(request.method, sourceInfo, destinationInfo);

/** The methods over the network are what stock tools do; a warp is quick when both sides can be. */
export const chooseTools = (
  method: MigrationMethod,
  source: Pick<GuestInfo, "quickTools">,
  destination: Pick<GuestInfo, "quickTools">,
): Toolset => (method === "warp" && source.quickTools && destination.quickTools ? "quick" : "stock");

/** Dumps and brings the image files to the host. */
export async function dumpSource(context: StepContext, pages: PageRoute): Promise<Dumped> {
  const { source, sourceAgent } = context.checked;
  const collector = new ChunkCollector(mostBytes(context));
  const { files, large, roots, command, spent } = await sourceAgent.call(
    "source.dump",
    { migration: context.id, pages, tools: toolset(context) },
    { signal: context.signal, timeoutMs: limits.dump + bulkMs(context), onChunk: collector.onChunk },
  );
  context.clock.spentInTools(spent);
  context.tally.commands.push({ vm: source.endpoint.name, argv: command });
  const images = splitFiles(files, collector.take());
  const openFiles = images.get("files.img");
  if (openFiles !== undefined) images.set("files.img", restartTimers(openFiles));
  return { files: images, large, roots };
}

export function splitFiles(files: readonly ImageFile[], bytes: Uint8Array): Map<string, Uint8Array> {
  const result = new Map<string, Uint8Array>();
  let offset = 0;
  for (const file of files) {
    result.set(file.name, bytes.subarray(offset, offset + file.bytes));
    offset += file.bytes;
  }
  if (offset !== bytes.byteLength) {
    throw new MwarpError(
      "MWARP_E_PROTOCOL",
      `the agent announced ${offset} image bytes and sent ${bytes.byteLength}`,
    );
  }
  return result;
}

export async function sendImages(
  context: StepContext,
  files: ReadonlyMap<string, Uint8Array>,
): Promise<void> {
  const list = [...files].map(([name, bytes]) => ({ name, bytes: bytes.byteLength }));
  context.tally.imageBytes += list.reduce((sum, file) => sum + file.bytes, 0);
  await context.checked.destinationAgent.call(
    "destination.images",
    { migration: context.id, files: list },
    { signal: context.signal, timeoutMs: limits.transfer, up: inChunks(files.values()) },
  );
}

/** What CRIU has made in the source's file system while it dumped, made in the destination's; hardly ever anything. */
export async function moveLinks(context: StepContext, { files }: Dumped): Promise<void> {
  const made = madeLinks(files);
  if (made.length === 0) return;
  const { sourceAgent, destinationAgent } = context.checked;
  const options = { signal: context.signal, timeoutMs: limits.transfer };
  const { links } = await sourceAgent.call("source.links", { migration: context.id, links: made }, options);
  await destinationAgent.call("destination.links", { migration: context.id, links }, options);
}

/** @param pagesFrom the source's page server when the pages come after the commit */
export async function restoreDestination(
  context: StepContext,
  pagesFrom: PageServer | null,
): Promise<AgentResult<"destination.restore">> {
  const { destination, destinationAgent } = context.checked;
  const restored = await destinationAgent.call(
    "destination.restore",
    { migration: context.id, pagesFrom, tools: toolset(context) },
    { signal: context.signal, timeoutMs: limits.restore + bulkMs(context) },
  );
  context.clock.spentInTools(restored.spent);
  context.tally.handed = restored.handedPages;
  for (const argv of restored.commands) context.tally.commands.push({ vm: destination.endpoint.name, argv });
  return restored;
}

/** After the commit. No signal: nobody may cancel what is already the destination's. The agent is asked for anew, as the channel may have been cut. */
export async function resumeDestination(context: StepContext): Promise<void> {
  const agent = timedAgent(await context.checked.destination.agent(), context.clock);
  await agent.call(
    "destination.resume",
    { migration: context.id, pokes: context.pokes, connections: [...context.connections] },
    { timeoutMs: limits.quick },
  );
  context.clock.runsAgain();
}

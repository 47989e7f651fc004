/**
 * Method `warp`: CRIU moves a skeleton without page contents; the pages change owner in one stun of both VMs.
 */

import { readConnections, readLooseConnections } from "../../criu/connections.js";
import { taskPagesFiles } from "../../criu/plan.js";
import { rewriteSkeleton } from "../../criu/skeleton.js";
import { MwarpError, toMwarpError } from "../../errors.js";
import type { PageRun } from "../../protocol/agent.js";
import { type Connection, MOST_CONNECTIONS } from "../../protocol/connection.js";
import { addressBytes } from "../../protocol/ip-address.js";
import { PAGE_BYTES } from "../../units.js";
import type { MemoryLayout } from "../../vm/types.js";
import type { ExchangePieces } from "../../warp/backends/exchange-pieces.js";
import { encodeExchange } from "../../warp/backends/exchange-record.js";
import type { CostModel } from "../../warp/cost-model.js";
import { subtractRuns, toRuns, type WantedPages, wantedPages } from "../../warp/page-ranges.js";
import { SideWalker } from "../../warp/side-walker.js";
import { TableRoom } from "../../warp/table-room.js";
import type { MigrationVm } from "../ports.js";
import type { Tally } from "../report.js";
import type { StepRunner } from "../runner.js";
import { type StunInput, type StunOutcome, stun } from "../stun.js";
import { VmSession } from "../vm-session.js";
import {
  type Dumped,
  dumpSource,
  freezeSource,
  moveLinks,
  prepareBoth,
  restoreDestination,
  type StepContext,
} from "./common.js";
import { deliverImages, fetchImages, type ImageStun } from "./large-images.js";
import { deliverLayer, fetchLastLayer } from "./layer.js";
import { MAX_REFAULTS, populateRuns, readPages, supplyMissing } from "./missing-pages.js";

const DEFAULT_MAX_STUN_MS = 10_000;

interface Sessions {
  readonly source: VmSession;
  readonly destination: VmSession;
  readonly aside: SideWalker;
}

/** Runs to the commit; what is left is the same for all methods. */
export async function migrateWarp(
  run: StepRunner,
  context: StepContext,
  knownCosts: () => Promise<CostModel>,
): Promise<void> {
  let opened: Sessions | null = null;
  try {
    const { costs, ...sessions } = await run.step("prepare", async () => {
      opened = await openSessions(context);
      const [costs] = await Promise.all([knownCosts(), prepareBoth(context)]);
      return { ...opened, costs };
    });
    await run.step("freeze", () => freezeSource(context));
    const dumped = await run.step("dump", () => dump(context));
    const both = {
      ...sessions,
      room: new TableRoom(),
      sourceInfo: context.checked.sourceInfo,
      destinationInfo: context.checked.destinationInfo,
      backend: context.request.backend,
      costs,
      maxStunMs: context.request.maxStunMs ?? DEFAULT_MAX_STUN_MS,
      onExchange: (pieces: ExchangePieces) => run.beginExchange(encodeExchange(pieces)),
      onUndone: () => run.forgetExchange(),
    };
    const images = { ...both, commit: () => run.settleExchange() };
    const wanted = await run.step("transfer", () => transfer(context, dumped, images));
    const { roots } = await run.step("restore", () => restoreDestination(context, null));
    await run.step("populate", () => populate(context, wanted));
    const facts = { ...both, pagesOf: "tasks", sourceRoots: dumped.roots, destinationRoots: roots } as const;
    await run.step(
      "warp",
      (commit) => warp(context, { ...facts, commit: toLivingVm(context, commit) }, wanted),
      context.pokes,
    );
  } finally {
    closeSessions(opened);
  }
}

/** A container that was given to a VM which has ended would have ended with it; not given, it is the source's. */
const toLivingVm =
  ({ checked: { destination } }: StepContext, commit: () => void): (() => void) =>
  () => {
    if (destination.isGone())
      throw new MwarpError("MWARP_E_VM_UNREACHABLE", `${destination.endpoint.name} ended in the stun`);
    commit();
  };

async function openSessions(context: StepContext): Promise<Sessions> {
  const { checked, request, signal } = context;
  if (checked.layouts === null) throw new MwarpError("MWARP_E_INTERNAL", "warp without memory layouts");
  const useLibrary = request.backend !== "copy";
  const { source: from, destination: to } = checked;
  const open = (vm: MigrationVm, layout: MemoryLayout): Promise<VmSession> =>
    VmSession.open(vm.endpoint, layout, useLibrary, signal, context.onNote);
  const source = await open(from, checked.layouts.source);
  let destination: VmSession | null = null;
  try {
    destination = await open(to, checked.layouts.destination);
    const canRemap = source.library !== null && destination.library !== null;
    if (request.backend === "remap" && !canRemap) {
      throw new MwarpError(
        "MWARP_E_UNSUPPORTED",
        "the memory of these VMs must not be remapped; use --backend copy",
      );
    }
    const { endpoint, layout } = destination;
    const aside = new SideWalker({ pid: endpoint.pid, layout }, (reason) =>
      context.onNote(`both VMs' page tables are walked by one thread: ${reason}`),
    );
    return { source, destination, aside };
  } catch (error) {
    source.close();
    destination?.close();
    throw error;
  }
}

function closeSessions(sessions: Sessions | null): void {
  sessions?.aside.close();
  sessions?.source.close();
  sessions?.destination.close();
}

/** The destination has nothing else to do while the source dumps, and unpacks files. */
async function dump(context: StepContext): Promise<Dumped> {
  const layer = await fetchLastLayer(context);
  const [dumped] = await Promise.all([dumpSource(context, { kind: "none" }), deliverLayer(context, layer)]);
  await moveLinks(context, dumped);
  return dumped;
}

/** Rewrites the skeleton on its way through the host; what it lists to be warped is what the stun must deliver. */
async function transfer(context: StepContext, dumped: Dumped, facts: ImageStun): Promise<WantedPages> {
  const ofTasks = dumped.large.length === 0 ? new Set<string>() : taskPagesFiles(dumped.files);
  const rewritten = dumped.large.filter(({ name }) => ofTasks.has(name));
  const files = new Map([...dumped.files, ...(await fetchImages(context, rewritten))]);
  const skeleton = await rewriteSkeleton(files, (runs) => readPages(context, runs), context.staged);
  context.pokes = skeleton.pokes;
  context.connections = connectionsOf(context, dumped);
  // Each of them needs a frame of its own on the destination.
  const { destination } = context.checked.layouts!;
  const wanted = wantedPages(skeleton.wanted, destination.bytes / PAGE_BYTES);
  context.tally.memoryPages = wanted.total;
  context.tally.memoryBytes = wanted.total * PAGE_BYTES;
  const large = dumped.large.filter((file) => !rewritten.includes(file));
  await deliverImages(context, skeleton.files, large, facts);
  return wanted;
}

/** A courtesy to their peers: nothing depends on it. Nobody is told anything of an address that is not the container's. */
function connectionsOf({ checked, onNote }: StepContext, { files }: Dumped): readonly Connection[] {
  const { ipv4, ipv6 } = checked.usage.spec.network;
  const own = [ipv4, ipv6?.address].map((text) => addressBytes(text ?? "")?.join());
  try {
    return [...readConnections(files), ...readLooseConnections(files)]
      .filter(({ address }) => own.includes(address.join()))
      .slice(0, MOST_CONNECTIONS);
  } catch (error) {
    onNote(`peers are not asked to send again: ${toMwarpError(error).message}`);
    return [];
  }
}

async function populate(context: StepContext, wanted: WantedPages): Promise<void> {
  if (wanted.total === 0) return;
  await populateRuns(context, toRuns(wanted));
}

/** What the stuns of one migration have in common. */
type StunFacts = Omit<StunInput, "onNote" | "onStun">;

async function warp(context: StepContext, facts: StunFacts, allWanted: WantedPages): Promise<void> {
  const { clock } = context;
  let wanted = allWanted;
  let asBytes: PageRun[] = [];
  for (let attempt = 0; ; attempt++) {
    context.signal.throwIfAborted();
    await context.deadMan.armed();
    const outcome = await stun(
      {
        ...facts,
        onNote: context.onNote,
        onStun: (source, destination, parts) => clock.stunned(source, destination, parts),
      },
      wanted,
      // Until pages that are lost again and again go as bytes, nobody need stand still to find them missing.
      attempt <= MAX_REFAULTS ? "rehearsed" : "at once",
    );
    if (outcome.kind === "committed") {
      context.table = { ...outcome.table, asBytes };
      return tallyMove(context.tally, outcome);
    }
    const left = await supplyMissing(context, outcome, wanted, attempt);
    if (left !== wanted) asBytes = asBytes.concat(toRuns(subtractRuns(wanted, toRuns(left))));
    wanted = left;
  }
}

function tallyMove(tally: Tally, { table, plan }: Extract<StunOutcome, { kind: "committed" }>): void {
  tally.remappedPages = plan.remap.totalPages;
  tally.copiedPages += plan.copy.totalPages;
  tally.sharedPages = table.counts.shared;
  tally.extents = plan.remap.count + plan.copy.count;
  tally.backend = tally.remappedPages > 0 ? "remap" : "copy";
}

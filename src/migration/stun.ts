/**
 * The stun: both VMs paused, and in that instant walk, validate, exchange, commit.
 *
 * INVARIANTS
 * - Nothing a guest said is trusted but the roots to walk from; frames come from its page tables, read while it is paused.
 * - All is validated before the first frame is exchanged; an exchange that cannot be committed is undone in the same stun.
 * - Both VMs continue, whatever happens, with one exception: memory that could be neither exchanged nor put back
 *   (Unsettled) must not be run on, so they stay paused.
 * - A page that is missing ends the stun without a change, or keeps it from beginning; it is faulted in, and everything is walked
 *   again.
 */
import { readFileSync } from "node:fs";
import { isMwarpError, MwarpError, toMwarpError } from "../errors.js";
import type { PageRun, TaskRoot } from "../protocol/agent.js";
import type { GuestInfo } from "../protocol/guest-info.js";
import type { BackendChoice, StunParts } from "../protocol/migration.js";
import type { BackedRam } from "../warp/backed-pieces.js";
import type { CompletedExchange } from "../warp/backend.js";
import { CopyBackend } from "../warp/backends/copy.js";
import type { ExchangePieces } from "../warp/backends/exchange-pieces.js";
import { RemapBackend } from "../warp/backends/remap.js";
import { cutAtHugePages, cutByBacking } from "../warp/candidates.js";
import type { CostModel } from "../warp/cost-model.js";
import { execute } from "../warp/execute.js";
import { concatExtents } from "../warp/extent-list.js";
import { buildExtents } from "../warp/extents.js";
import { memoryKind } from "../warp/memory-kind.js";
import type { WantedPages } from "../warp/page-ranges.js";
import type { PagesOf } from "../warp/physical-memory.js";
import { type ExchangePlan, type Movable, mappingBudget, plan } from "../warp/planner.js";
import type { SideWalker } from "../warp/side-walker.js";
import { buildTable, isComplete, type WarpTable } from "../warp/table.js";
import type { TableRoom } from "../warp/table-room.js";
import { StunClock } from "./clock.js";
import { type ImagePoint, killPoint, type StunPoint, staleTable } from "./faults.js";
import { Unsettled } from "./unsettled.js";
import type { VmSession } from "./vm-session.js";

export interface StunInput {
  readonly source: VmSession;
  readonly destination: VmSession;
  /** Walks the destination's page tables while the source's are walked. */
  readonly aside: SideWalker;
  readonly room: TableRoom;
  readonly sourceRoots: readonly TaskRoot[];
  readonly destinationRoots: readonly TaskRoot[];
  readonly pagesOf: PagesOf;
  readonly sourceInfo: GuestInfo;
  readonly destinationInfo: GuestInfo;
  readonly backend: BackendChoice;
  readonly costs: CostModel;
  /** How long the VMs may stand still, ms, the exchange included as it is predicted. Once that has begun it is finished. */
  readonly maxStunMs: number;
  /** Journals what is about to be exchanged, so that a death in the middle can be undone. */
  readonly onExchange: (pieces: ExchangePieces) => void;
  /** Every frame is back where it was: what `onExchange` wrote down is to be forgotten. */
  readonly onUndone: () => void;
  /** Journals what makes the exchange final; when it throws, the exchange is undone. */
  readonly commit: () => void;
  readonly onNote: (message: string) => void;
  /** Told how long each VM stood still, ms, and what for. */
  readonly onStun: (sourceMs: number, destinationMs: number, parts: StunParts) => void;
}

export interface MissingPages {
  readonly kind: "missing";
  readonly source: readonly PageRun[];
  readonly destination: readonly PageRun[];
}

export type StunOutcome =
  | { readonly kind: "committed"; readonly table: WarpTable; readonly plan: ExchangePlan }
  | MissingPages;

const points: Readonly<
  Record<PagesOf, { exchanged: StunPoint | ImagePoint; final: StunPoint | ImagePoint }>
> = {
  tasks: { exchanged: "exchanged", final: "stunned" },
  imageFiles: { exchanged: "imagesExchanged", final: "imagesSettled" },
};

/** One attempt. @throws MwarpError when it was not committed; nothing is exchanged then. */
export async function stun(
  input: StunInput,
  wanted: WantedPages,
  how: "rehearsed" | "at once",
): Promise<StunOutcome> {
  const readTable = (): WarpTable =>
    buildTable({
      source: input.source.sourceView(input.sourceRoots, input.sourceInfo, input.pagesOf),
      destination: input.destination.view(input.destinationRoots, input.destinationInfo),
      wanted,
      aside: input.aside,
      room: input.room,
    });
  const missing = how === "rehearsed" ? rehearse(input, readTable) : null;
  if (missing !== null) return missing;
  const stale = await staleTable(readTable);
  const since = performance.now();
  const clock = new StunClock();
  const paused = await pauseBoth(input, clock);
  let exchange: CompletedExchange | null = null;
  let sound = true;
  let committed = false;
  const left = (): number => Math.max(1, input.maxStunMs - (performance.now() - since));
  try {
    const both = [input.source, input.destination];
    await Promise.all(both.map((session) => session.mustBeChangeable(left())));
    clock.spent("check");
    const table = stale ?? readTable();
    clock.spent("walk");
    if (!isComplete(table)) return { kind: "missing", ...table.missing };
    const carriedOut = await carryOut(input, table, since, clock);
    exchange = carriedOut.exchange;
    killPoint(points[input.pagesOf].exchanged);
    await commitOrUndo(input, exchange);
    clock.spent("commit");
    committed = true;
    killPoint(points[input.pagesOf].final);
    return { kind: "committed", table, plan: carriedOut.plan };
  } catch (thrown) {
    const error = Unsettled.mark(thrown);
    sound = !(error instanceof Unsettled);
    throw error;
  } finally {
    if (sound) {
      await paused.continueBoth().catch((error: unknown) => {
        // What is committed stays committed; whoever goes forward lets the VMs go on first.
        if (!committed) throw error;
        input.onNote(`a VM did not continue after the commit: ${toMwarpError(error).message}`);
      });
    }
    await exchange?.release();
  }
}

/**
 * The walk and the plan while both VMs still run. Pages that are missing already are found so with nobody standing still; and when
 * it counts the code has been compiled, and the page tables are in the caches. Nothing else of it is used, as guests that run may
 * change all of it under the reader's eyes: what was no table for that reason is one in the stun, or fails there. Not for ever:
 * guests in which something is always missing must not keep the container from its stun.
 */
function rehearse(input: StunInput, readTable: () => WarpTable): MissingPages | null {
  try {
    const table = readTable();
    if (!isComplete(table)) return { kind: "missing", ...table.missing };
    makePlan(input, table, canRemap(input) ? input.backend : "copy", readBackings(input, table));
  } catch (error) {
    if (!isMwarpError(error, "MWARP_E_WARP")) throw error;
  }
  return null;
}

interface Paused {
  continueBoth(): Promise<void>;
}

async function pauseBoth(
  { source, destination, maxStunMs, onStun }: StunInput,
  clock: StunClock,
): Promise<Paused> {
  const sides = [source, destination];
  const continueBoth = async (): Promise<void> => {
    const ends = await Promise.allSettled(
      sides.map(async (session) => {
        await session.continue();
        return performance.now();
      }),
    );
    const failure = ends.find((end) => end.status === "rejected");
    if (failure !== undefined) throw failure.reason;
    const [source, destination] = ends.map((end) => (end.status === "fulfilled" ? end.value : 0));
    // Not when this is reached: both VMs have the processors by now.
    clock.spent("continue", Math.max(source!, destination!));
    onStun(source! - clock.begunAt, destination! - clock.begunAt, clock.parts);
  };
  const pauses = await Promise.allSettled(sides.map((session) => session.pause(maxStunMs)));
  clock.spent("pause");
  const failure = pauses.find((end) => end.status === "rejected");
  if (failure !== undefined) {
    await continueBoth();
    throw failure.reason;
  }
  return { continueBoth };
}

interface CarriedOut {
  readonly plan: ExchangePlan;
  readonly exchange: CompletedExchange | null;
}

/** With `auto` an exchange that the VMMs refuse (and have undone) is made up for by copying, in the same stun. */
async function carryOut(
  input: StunInput,
  table: WarpTable,
  since: number,
  clock: StunClock,
): Promise<CarriedOut> {
  const backed = readBackings(input, table);
  const chosen = makePlan(input, table, canRemap(input) ? input.backend : "copy", backed);
  clock.spent("plan");
  mustFit(chosen, performance.now() - since, input.maxStunMs);
  try {
    const { exchange } = await execute(chosen, backends(input, backed));
    clock.spent("exchange");
    return { plan: chosen, exchange };
  } catch (error) {
    // It says so of itself: everything is as before.
    if (isMwarpError(error, "MWARP_E_WARP")) input.onUndone();
    const refused = input.backend === "auto" && chosen.remap.count > 0 && isMwarpError(error, "MWARP_E_WARP");
    if (!refused) throw error;
    input.onNote(`remapping was refused, so all is copied: ${error.message}`);
    const now = readBackings(input, table);
    const copying = makePlan(input, table, "copy", now);
    const { exchange } = await execute(copying, backends(input, now));
    clock.spent("exchange");
    return { plan: copying, exchange };
  }
}

/** From the exchange on the stun is finished, however long it takes: whether there is time for it is asked before. */
function mustFit({ predictedMs }: ExchangePlan, stoodMs: number, maxStunMs: number): void {
  if (stoodMs + predictedMs <= maxStunMs) return;
  const [stood, needed] = [Math.ceil(stoodMs), Math.ceil(predictedMs)];
  throw new MwarpError(
    "MWARP_E_TIMEOUT",
    `the VMs stood still for ${stood} ms and the exchange would take ${needed} ms more; nothing was exchanged`,
    { hint: "Raise --max-stun, or look for what is slow: mwarp inspect ID." },
  );
}

/** What backs both VMs' RAM, read once in each stun. */
interface Backings {
  readonly source: BackedRam;
  readonly destination: BackedRam;
}

const readBackings = ({ source, destination }: StunInput, table: WarpTable): Backings => ({
  source: { ram: table.source, backing: source.backing.read() },
  destination: { ram: table.destination, backing: destination.backing.read() },
});

const canRemap = ({ source, destination, backend }: StunInput): boolean =>
  backend !== "copy" && source.library !== null && destination.library !== null;

function makePlan(
  input: StunInput,
  table: WarpTable,
  objective: BackendChoice,
  { source, destination }: Backings,
): ExchangePlan {
  const kind = memoryKind(source.ram, destination.ram);
  // Who asks for remapping gets it for parts of huge pages, too, at the price of those.
  const keepHuge = objective !== "remap" && kind === "thp";
  const costs = input.costs[kind === "thp" && !keepHuge ? "4k" : kind];
  return plan(findMovable(table, { source, destination }, keepHuge), {
    objective,
    costs,
    mappingBudget: mappingBudget(maxMapCount(), source.backing.mappings, destination.backing.mappings),
  });
}

function findMovable(table: WarpTable, { source, destination }: Backings, keepHuge: boolean): Movable {
  const { exchangeable, copyOnly } = buildExtents(table);
  if (!keepHuge) return { exchangeable: cutByBacking(exchangeable, source, destination), copyOnly };
  const { whole, parts } = cutAtHugePages(exchangeable, source, destination);
  return { exchangeable: whole, copyOnly: concatExtents(copyOnly, parts) };
}

function backends(input: StunInput, backed: Backings): Parameters<typeof execute>[1] {
  const { source, destination } = input;
  const copier = new CopyBackend(
    { pid: source.endpoint.pid, ...backed.source },
    { pid: destination.endpoint.pid, ...backed.destination },
    { onNote: input.onNote },
  );
  if (!canRemap(input) || source.library === null || destination.library === null)
    return { copier, exchanger: null };
  const exchanger = new RemapBackend(
    { now: backed.source, library: source.library, backing: source.backing },
    { now: backed.destination, library: destination.library, backing: destination.backing },
    input.onExchange,
  );
  return { copier, exchanger };
}

async function commitOrUndo(
  { commit, onUndone }: Pick<StunInput, "commit" | "onUndone">,
  exchange: CompletedExchange | null,
): Promise<void> {
  try {
    commit();
  } catch (error) {
    // A journal that may or may not say "committed" decides nothing: not for an undo, and not against one.
    if (error instanceof Unsettled) throw error;
    await exchange?.undo();
    onUndone();
    const why = toMwarpError(error).message;
    throw new MwarpError("MWARP_E_WARP", `not committed, and the exchange undone: ${why}`, { cause: error });
  }
}

/** vm.max_map_count (admin-guide/sysctl/vm.rst): more mappings than that, and mmap fails. */
const maxMapCount = (): number => Number(readFileSync("/proc/sys/vm/max_map_count", "utf8"));

/**
 * The mWarp table: for each wanted page its frame on the source, its frame on the destination, and what may be done with
 * them. Built with both guests paused, from their own page tables; good only until either runs again. (A table of
 * guests that run, as in the rehearsal of a stun, says no more than what was missing at some time.)
 */
import type { PageRun } from "../protocol/agent.js";
import { type Walk, walkWanted } from "./address-space-walk.js";
import { DESTINATION_NEEDS, walkDestination } from "./destination-walk.js";
import { SourceKind, sourceKinds } from "./exclusivity.js";
import type { FrameSet } from "./frame-set.js";
import { KernelMemory } from "./kernel-va.js";
import { confirmRoots } from "./live-tasks.js";
import { selectRuns, type WantedPages } from "./page-ranges.js";
import { Leaf } from "./pagewalk.js";
import type { GuestView, SourceView } from "./physical-memory.js";
import { RamMap } from "./ram-map.js";
import type { SideWalker } from "./side-walker.js";
import { StructPages } from "./struct-page.js";
import { TableRoom } from "./table-room.js";

/** What is to be done with a page. */
export const PageClass = {
  /** Source frame is the container's alone, destination frame was written by the destination guest: may be exchanged. */
  exchange: 0,
  /** Source frame has, or may have, other users (also the zero pages): its bytes are copied. */
  copy: 1,
  /** Same source frame as an exchanged page: copied before the exchange. */
  shared: 2,
  /** No present leaf on the source, or none on the destination that may be written to: fault in and build again. */
  missing: 3,
} as const;

export interface WarpTable {
  readonly wanted: WantedPages;
  /** Frame numbers by position in the wanted order; of no meaning where the page is missing. */
  readonly sourceFrames: Uint32Array;
  readonly destinationFrames: Uint32Array;
  readonly classes: Uint8Array;
  /** SourceKind of each page: why it is treated as it is. */
  readonly kinds: Uint8Array;
  readonly source: RamMap;
  readonly destination: RamMap;
  readonly counts: TableCounts;
  /** Pages of the migration that went as bytes before this walk, and so are not among the wanted ones. */
  readonly asBytes?: readonly PageRun[];
  /** Pages to fault in before the next try; both empty when the table is complete. */
  readonly missing: { readonly source: readonly PageRun[]; readonly destination: readonly PageRun[] };
}

export interface TableCounts {
  readonly exchange: number;
  readonly copy: number;
  readonly shared: number;
  readonly missingSource: number;
  readonly missingDestination: number;
}

/** The two walks joined, before anyone asks what is missing. */
interface Classified {
  readonly classes: Uint8Array;
  readonly counts: TableCounts;
}

const SOURCE_NEEDS = Leaf.present | Leaf.user;

/**
 * Walks both guests and classifies every wanted page. Both VMs must be paused from before the call until the plan is
 * carried out. Missing pages are not an error: see `missing`.
 * Throws MWARP_E_WARP when a task has ended, a guest's tables cannot be right, or two pages claim one destination frame (I2, I3).
 */
export function buildTable(options: {
  readonly source: SourceView;
  readonly destination: GuestView;
  readonly wanted: WantedPages;
  /** Walks the destination while the source is walked here. */
  readonly aside?: Pick<SideWalker, "begin">;
  /** Where to make it: whatever table was made there before, or by `aside`, is overwritten. */
  readonly room?: TableRoom;
}): WarpTable {
  const { wanted } = options;
  const source = new RamMap(options.source.layout);
  const destination = new RamMap(options.destination.layout);
  const room = options.room ?? new TableRoom();
  room.clear(wanted.total);
  const sourceKernel = kernelOf(options.source, source);
  confirmRoots(sourceKernel, options.source);
  confirmRoots(kernelOf(options.destination, destination), options.destination);
  const walked = options.aside?.begin(options.destination, wanted);
  const from = walkWanted(options.source, source, wanted, room.from);
  const { levels, structPage, pagesOf } = options.source;
  const structPages = new StructPages(sourceKernel, levels, structPage, room.known, pagesOf);
  const kinds = sourceKinds(from, structPages, room);
  const to = walked?.() ?? walkDestination(options.destination, destination, wanted, room.to);
  const { classes, counts } = classify(from, to, kinds, room);
  return {
    wanted,
    sourceFrames: from.frames,
    destinationFrames: to.frames,
    classes,
    kinds,
    source,
    destination,
    counts,
    missing: {
      source: counts.missingSource === 0 ? [] : selectRuns(wanted, (at) => !has(from, at, SOURCE_NEEDS)),
      destination:
        counts.missingDestination === 0 ? [] : selectRuns(wanted, (at) => !has(to, at, DESTINATION_NEEDS)),
    },
  };
}

/** Whether every page has its two frames: only such a table may be carried out. */
export function isComplete(table: WarpTable): boolean {
  return table.counts.missingSource === 0 && table.counts.missingDestination === 0;
}

const kernelOf = (guest: GuestView, ram: RamMap): KernelMemory =>
  new KernelMemory(guest.memory, ram, guest.levels, guest.kernelRootGpa);

/** In steps of pages that are in one stretch on both sides: of huge leaves, 512 at a time. */
function classify(from: Walk, to: Walk, kinds: Uint8Array, room: TableRoom): Classified {
  const total = kinds.length;
  const { classes, exchanged } = room;
  const perClass = [0, 0, 0, 0];
  let missingSource = 0;
  let missingDestination = 0;
  let fromEnd = 0;
  let toEnd = 0;
  for (let position = 0, end = 0; position < total; position = end) {
    if (position === fromEnd) fromEnd += from.stretches[position];
    if (position === toEnd) toEnd += to.stretches[position];
    end = Math.min(fromEnd, toEnd);
    const pages = end - position;
    const sourceReady = has(from, position, SOURCE_NEEDS);
    const destinationReady = has(to, position, DESTINATION_NEEDS);
    if (!sourceReady) missingSource += pages;
    if (!destinationReady) missingDestination += pages;
    let verdict: number = PageClass.exchange;
    if (!sourceReady || !destinationReady) verdict = PageClass.missing;
    else if (kinds[position] !== SourceKind.exclusive) verdict = PageClass.copy;
    else if (!exchanged.addRun(from.frames[position], pages)) {
      const first = exchangeOthers(exchanged, from.frames[position], classes.subarray(position, end));
      perClass[PageClass.exchange] += first;
      perClass[PageClass.shared] += pages - first;
      continue;
    }
    perClass[verdict] += pages;
    // A call for a single byte costs more than all the rest.
    if (pages === 1) classes[position] = verdict;
    else classes.fill(verdict, position, end);
  }
  const [exchange, copy, shared] = perClass;
  return { classes, counts: { exchange, copy, shared, missingSource, missingDestination } };
}

/** Pages whose frames are exchanged in part already: each frame goes once. Gives the number of those that go with these. */
function exchangeOthers(exchanged: FrameSet, frame: number, classes: Uint8Array): number {
  for (let page = 0; page < classes.length; page++)
    classes[page] = exchanged.add(frame + page) ? PageClass.exchange : PageClass.shared;
  return classes.reduce((count, verdict) => count + (verdict === PageClass.exchange ? 1 : 0), 0);
}

function has(walk: Walk, position: number, needs: number): boolean {
  return (walk.flags[position] & needs) === needs;
}

/**
 * Chooses for each extent whether its frames are exchanged by remapping or its bytes are copied.
 * Pure: extents and costs in, two lists out; each page is in exactly one of them.
 */
import type { Candidates } from "./candidates.js";
import type { ExchangeCosts } from "./cost-model.js";
import { concatExtents, type Extents, ExtentsBuilder, NO_EXTENTS } from "./extent-list.js";

/** `auto`: least predicted time. `remap`: whatever alignment and the mapping budget allow. `copy`: nothing is remapped. */
export type Objective = "auto" | "remap" | "copy";

/** All that is to be moved. */
export interface Movable {
  /** May be exchanged: exclusive, aligned to host pages on both sides, each in one mapping of either VMM. */
  readonly exchangeable: Candidates;
  /** Can only be copied. */
  readonly copyOnly: Extents;
}

export interface PlanOptions {
  readonly objective: Objective;
  readonly costs: ExchangeCosts;
  /** Mappings that may be added in each of the two VMMs (see `mappingBudget`). */
  readonly mappingBudget: number;
}

export interface ExchangePlan {
  readonly remap: Extents;
  /** Carried out first: shared frames are read before they are exchanged away. */
  readonly copy: Extents;
  readonly predictedMs: number;
  /** What remapping all exchangeable extents would take (the others copied); null when the budget does not allow it. */
  readonly allRemapMs: number | null;
  readonly allCopyMs: number;
}

/**
 * Mappings to spare: the lesser of what both VMMs may still make, with a reserve for the VMM's own use.
 * `maxMapCount` is vm.max_map_count, the others what each VMM has now.
 */
export function mappingBudget(
  maxMapCount: number,
  sourceMappings: number,
  destinationMappings: number,
): number {
  const reserve = Math.ceil(maxMapCount / 16);
  return Math.max(0, maxMapCount - reserve - Math.max(sourceMappings, destinationMappings));
}

/** Predicted time is at most that of remapping everything and of copying everything, where these are possible (I7). */
export function plan({ exchangeable, copyOnly }: Movable, options: PlanOptions): ExchangePlan {
  const { costs, objective } = options;
  const room = Math.max(0, options.mappingBudget);
  const all: Selection = {
    count: exchangeable.count,
    pages: exchangeable.totalPages,
    mappings: exchangeable.newMappings.reduce((sum, count) => sum + count, 0),
    quota: null,
  };
  const totalUs = (remapped: Selection): number =>
    remapUs(costs, remapped.count, remapped.pages) +
    copyUs(
      costs,
      copyOnly.count + all.count - remapped.count,
      copyOnly.totalPages + all.pages - remapped.pages,
    );
  const allCopyUs = totalUs(NOTHING);
  const allRemapUs = all.mappings <= room ? totalUs(all) : null;

  let chosen = choose(exchangeable, room, objective, costs);
  let chosenUs = totalUs(chosen);
  // Set-ups are paid once for all: single extents may gain and their sum lose, or the other way round.
  if (objective === "auto" && allCopyUs < chosenUs) {
    chosen = NOTHING;
    chosenUs = allCopyUs;
  }
  if (objective === "auto" && allRemapUs !== null && allRemapUs < chosenUs) {
    chosen = all;
    chosenUs = allRemapUs;
  }
  const { remap, rest } = split(exchangeable, chosen);
  return {
    remap,
    copy: concatExtents(copyOnly, rest),
    predictedMs: chosenUs / 1000,
    allRemapMs: allRemapUs === null ? null : allRemapUs / 1000,
    allCopyMs: allCopyUs / 1000,
  };
}

/** Which of the candidates to remap, and what that comes to. */
interface Selection {
  readonly count: number;
  readonly pages: number;
  readonly mappings: number;
  /** Of each kind (see `kindOf`), so many, in order; null for all of them. */
  readonly quota: Uint32Array | null;
}

const NOTHING: Selection = { count: 0, pages: 0, mappings: 0, quota: new Uint32Array(0) };

/**
 * What a candidate gains depends on its length, what it takes from the budget on its new mappings: candidates alike in both
 * are of one kind. N pages make at most sqrt(2N) different lengths: counting kinds and sorting them replaces sorting
 * the candidates.
 */
const MAPPINGS_KINDS = 3;
const kindOf = (pages: number, mappings: number): number => pages * MAPPINGS_KINDS + mappings;
const pagesOf = (kind: number): number => Math.floor(kind / MAPPINGS_KINDS);
const mappingsOf = (kind: number): number => kind % MAPPINGS_KINDS;

/**
 * The most gain for each mapping first; what takes none from the budget before all others. A candidate takes two mappings at
 * most, so this misses the best choice in one case only: one mapping is left, and the next candidate wants two. Then either
 * it gives way, or the least of the single ones does.
 */
function choose(candidates: Candidates, room: number, objective: Objective, costs: ExchangeCosts): Selection {
  if (objective === "copy" || candidates.count === 0) return NOTHING;
  const gain = (kind: number): number =>
    objective === "remap" ? pagesOf(kind) : gainUs(costs, pagesOf(kind));
  const worth = (kind: number): number => gain(kind) / mappingsOf(kind);
  const { counts, kinds } = countKinds(candidates);
  const best = kinds.filter((kind) => gain(kind) > 0).sort((a, b) => compare(worth(b), worth(a)));
  const quota = new Uint32Array(counts.length);
  let left = room;
  let swapped = false;
  for (const [rank, kind] of best.entries()) {
    const each = mappingsOf(kind);
    const fit = each === 0 ? counts[kind] : Math.floor(left / each);
    quota[kind] = Math.min(counts[kind] - quota[kind], fit);
    left -= quota[kind] * each;
    if (swapped || each !== 2 || left !== 1 || quota[kind] === counts[kind]) continue;
    swapped = true;
    const taken = best.slice(0, rank).findLast((other) => mappingsOf(other) === 1);
    const next = best.slice(rank).find((other) => mappingsOf(other) === 1);
    const instead =
      (taken === undefined ? Number.POSITIVE_INFINITY : gain(taken)) + (next === undefined ? 0 : gain(next));
    if (taken === undefined || gain(kind) <= instead) continue;
    quota[taken]--;
    quota[kind]++;
    left = 0;
  }
  return select(quota, best);
}

function select(quota: Uint32Array, kinds: readonly number[]): Selection {
  let [count, pages, mappings] = [0, 0, 0];
  for (const kind of kinds) {
    count += quota[kind];
    pages += quota[kind] * pagesOf(kind);
    mappings += quota[kind] * mappingsOf(kind);
  }
  return { count, pages, mappings, quota };
}

/** Also of two infinities, whose difference is no number. */
const compare = (a: number, b: number): number => (a === b ? 0 : a < b ? -1 : 1);

/** How many candidates there are of each kind, and the kinds met. */
function countKinds({ count, pages, newMappings }: Candidates): { counts: Uint32Array; kinds: number[] } {
  let longest = 0;
  for (let index = 0; index < count; index++) longest = Math.max(longest, pages[index]);
  const counts = new Uint32Array(kindOf(longest, MAPPINGS_KINDS));
  const kinds: number[] = [];
  for (let index = 0; index < count; index++) {
    const kind = kindOf(pages[index], newMappings[index]);
    if (counts[kind] === 0) kinds.push(kind);
    counts[kind]++;
  }
  return { counts, kinds };
}

function split(candidates: Candidates, selection: Selection): { remap: Extents; rest: Extents } {
  if (selection.count === 0) return { remap: NO_EXTENTS, rest: candidates };
  if (selection.count === candidates.count || selection.quota === null) {
    return { remap: candidates, rest: NO_EXTENTS };
  }
  const left = selection.quota.slice();
  const remap = new ExtentsBuilder(selection.count);
  const rest = new ExtentsBuilder(candidates.count - selection.count);
  for (let index = 0; index < candidates.count; index++) {
    const pages = candidates.pages[index];
    const kind = kindOf(pages, candidates.newMappings[index]);
    const taken = left[kind] > 0;
    if (taken) left[kind]--;
    const into = taken ? remap : rest;
    into.push(candidates.sourceFrames[index], candidates.destinationFrames[index], pages);
  }
  return { remap: remap.build(), rest: rest.build() };
}

/** What remapping one extent saves over copying it, the set-up not counted. */
function gainUs(costs: ExchangeCosts, pages: number): number {
  const copying = costs.copyPerExtentUs + pages * costs.copyPerPageUs;
  return copying - remapExtentUs(costs) - pages * remapPageUs(costs);
}

/** The guest's first use included. */
const remapExtentUs = (costs: ExchangeCosts): number => costs.remapPerExtentUs + costs.touchPerExtentUs;
const remapPageUs = (costs: ExchangeCosts): number => costs.remapPerPageUs + costs.touchPerPageUs;

function remapUs(costs: ExchangeCosts, count: number, pages: number): number {
  if (count === 0) return 0;
  return costs.remapSetupUs + count * remapExtentUs(costs) + pages * remapPageUs(costs);
}

function copyUs(costs: ExchangeCosts, count: number, pages: number): number {
  if (count === 0) return 0;
  return costs.copySetupUs + count * costs.copyPerExtentUs + pages * costs.copyPerPageUs;
}

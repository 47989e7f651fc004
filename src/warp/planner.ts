/**
 * Chooses for each extent whether its frames are exchanged by remapping or its bytes are copied.
 * Pure: extents and costs in, two lists out; each page is in exactly one of them.
 */
import type { ExchangeCosts } from "./cost-model.js";
import { concatExtents, type ExtentSet, type Extents, ExtentsBuilder, NO_EXTENTS } from "./extents.js";

/** `auto`: least predicted time. `remap`: whatever alignment and the mapping budget allow. `copy`: nothing is remapped. */
export type Objective = "auto" | "remap" | "copy";

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

/** A remapped extent splits one mapping into at most three. */
const MAPPINGS_PER_EXTENT = 2;

/**
 * Mappings to spare: the lesser of what both VMMs may still make, with a reserve for the VMM's own use.
 * `maxMapCount` is vm.max_map_count, the others the number of lines in /proc/PID/maps.
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
export function plan(extents: ExtentSet, options: PlanOptions): ExchangePlan {
  const { exchangeable, copyOnly } = extents;
  const { costs, objective } = options;
  const room = Math.floor(Math.max(0, options.mappingBudget) / MAPPINGS_PER_EXTENT);
  const all = { count: exchangeable.count, pages: exchangeable.totalPages };
  const alwaysUs = copyUs(costs, copyOnly.count, copyOnly.totalPages);
  const splitUs = (remapped: Share): number =>
    remapUs(costs, remapped.count, remapped.pages) +
    copyUs(costs, all.count - remapped.count, all.pages - remapped.pages);
  const allCopyUs = splitUs(NOTHING);
  const allRemapUs = all.count <= room ? splitUs(all) : null;

  let chosen = choose(exchangeable, room, objective, costs);
  let chosenUs = splitUs(chosen);
  // The set-up of a remap is paid once for all: single extents may gain and their sum lose, or the other way round.
  if (objective === "auto" && allCopyUs < chosenUs) {
    chosen = NOTHING;
    chosenUs = allCopyUs;
  }
  if (objective === "auto" && allRemapUs !== null && allRemapUs < chosenUs) {
    chosen = { ...all, quota: null };
    chosenUs = allRemapUs;
  }
  const { remap, rest } = split(exchangeable, chosen);
  return {
    remap,
    copy: concatExtents(copyOnly, rest),
    predictedMs: (alwaysUs + chosenUs) / 1000,
    allRemapMs: allRemapUs === null ? null : (alwaysUs + allRemapUs) / 1000,
    allCopyMs: (alwaysUs + allCopyUs) / 1000,
  };
}

interface Share {
  readonly count: number;
  readonly pages: number;
}

/** Which of the exchangeable extents to remap: of each length, so many, in order; null for all of them. */
interface Selection extends Share {
  readonly quota: Uint32Array | null;
}

const NOTHING: Selection = { count: 0, pages: 0, quota: new Uint32Array(0) };

/**
 * What an extent gains depends on its length alone, and N pages make at most sqrt(2N) different lengths: counting them
 * and sorting the lengths replaces sorting the extents.
 */
function choose(extents: Extents, room: number, objective: Objective, costs: ExchangeCosts): Selection {
  if (objective === "copy" || room === 0 || extents.count === 0) return NOTHING;
  const worth = (pages: number): number => (objective === "remap" ? pages : gainUs(costs, pages));
  const { counts, lengths } = countLengths(extents);
  const best = lengths.filter((pages) => worth(pages) > 0).sort((a, b) => worth(b) - worth(a));
  const quota = new Uint32Array(counts.length);
  let count = 0;
  let total = 0;
  for (const pages of best) {
    const taken = Math.min(counts[pages], room - count);
    quota[pages] = taken;
    count += taken;
    total += taken * pages;
  }
  return { count, pages: total, quota };
}

/** How many extents there are of each length, and the lengths met. */
function countLengths(extents: Extents): { counts: Uint32Array; lengths: number[] } {
  let longest = 0;
  for (let index = 0; index < extents.count; index++) longest = Math.max(longest, extents.pages[index]);
  const counts = new Uint32Array(longest + 1);
  const lengths: number[] = [];
  for (let index = 0; index < extents.count; index++) {
    const pages = extents.pages[index];
    if (counts[pages] === 0) lengths.push(pages);
    counts[pages]++;
  }
  return { counts, lengths };
}

function split(extents: Extents, selection: Selection): { remap: Extents; rest: Extents } {
  if (selection.count === 0) return { remap: NO_EXTENTS, rest: extents };
  if (selection.count === extents.count || selection.quota === null) {
    return { remap: extents, rest: NO_EXTENTS };
  }
  const left = selection.quota.slice();
  const remap = new ExtentsBuilder(selection.count);
  const rest = new ExtentsBuilder(extents.count - selection.count);
  for (let index = 0; index < extents.count; index++) {
    const pages = extents.pages[index];
    const taken = left[pages] > 0;
    if (taken) left[pages]--;
    const into = taken ? remap : rest;
    into.push(extents.sourceFrames[index], extents.destinationFrames[index], pages);
  }
  return { remap: remap.build(), rest: rest.build() };
}

/** What remapping one extent saves over copying it, the set-up not counted. */
function gainUs(costs: ExchangeCosts, pages: number): number {
  const copying = costs.copyPerExtentUs + pages * costs.copyPerPageUs;
  return copying - costs.remapPerExtentUs - pages * (costs.remapPerPageUs + costs.touchPerPageUs);
}

function remapUs(costs: ExchangeCosts, count: number, pages: number): number {
  if (count === 0) return 0;
  const perPage = costs.remapPerPageUs + costs.touchPerPageUs;
  return costs.remapSetupUs + count * costs.remapPerExtentUs + pages * perPage;
}

function copyUs(costs: ExchangeCosts, count: number, pages: number): number {
  return count * costs.copyPerExtentUs + pages * costs.copyPerPageUs;
}

/**
 * What remapping and copying cost on this host, in microseconds: constants that were measured, and a quick measurement.
 * `touch` is paid after the stun, when the guest first uses a remapped page; the planner counts it all the same.
 */
import { HUGE_BYTES, PAGE_BYTES, PAGES_PER_HUGE } from "../units.js";
import { type CostSample, measureExchange } from "./native.js";

export interface ExchangeCosts {
  /** Once per exchange that remaps anything: opening files in both VMMs, round trips. */
  readonly remapSetupUs: number;
  readonly remapPerExtentUs: number;
  readonly remapPerPageUs: number;
  readonly touchPerPageUs: number;
  readonly copyPerExtentUs: number;
  readonly copyPerPageUs: number;
}

/** By the size of the host pages behind guest RAM. Pages are 4 KiB ones in both. */
export interface CostModel {
  readonly basePages: ExchangeCosts;
  readonly hugePages: ExchangeCosts;
}

export const DEFAULT_COSTS: CostModel = {
  basePages: {
    remapSetupUs: 500,
    remapPerExtentUs: 15,
    remapPerPageUs: 0.3,
    touchPerPageUs: 1,
    copyPerExtentUs: 0.3,
    copyPerPageUs: 0.3,
  },
  hugePages: {
    remapSetupUs: 500,
    remapPerExtentUs: 12,
    remapPerPageUs: 0.002,
    touchPerPageUs: 0.012,
    copyPerExtentUs: 0.3,
    copyPerPageUs: 0.25,
  },
};

/** The costs that hold between two VMs: those of huge pages only when both have them. */
export function costsFor(model: CostModel, hostPageBytes: number): ExchangeCosts {
  return hostPageBytes >= HUGE_BYTES ? model.hugePages : model.basePages;
}

const SHORT_RUN = { pages: 1024, run: 1 };
const LONG_RUN = { pages: 4096, run: PAGES_PER_HUGE };
/** The least of some tries: other load only ever adds. */
const TRIES = 3;

/**
 * Measures on memfds of this process: 32 MiB, about 0.3 s in which nothing else runs in the daemon. What cannot be
 * measured (no huge pages reserved) keeps its default. What a VMM adds to a mapping change (KVM's MMU notifier, TCG's
 * TLB) is not in it.
 */
export function measureCosts(): CostModel {
  const short = measureBest(SHORT_RUN.pages, SHORT_RUN.run, PAGE_BYTES);
  const long = measureBest(LONG_RUN.pages, LONG_RUN.run, PAGE_BYTES);
  const huge = measureBest(LONG_RUN.pages, LONG_RUN.run, HUGE_BYTES);
  return {
    basePages: short !== null && long !== null ? fitCosts(short, long) : DEFAULT_COSTS.basePages,
    hugePages: huge !== null ? fitHugeCosts(huge) : DEFAULT_COSTS.hugePages,
  };
}

function measureBest(pages: number, runPages: number, hostPageBytes: number): CostSample | null {
  let best: CostSample | null = null;
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const sample = measureExchange(pages, runPages, hostPageBytes);
    if (sample === null) return best;
    best = best === null ? sample : leastOf(best, sample);
  }
  return best;
}

function leastOf(one: CostSample, other: CostSample): CostSample {
  return {
    ...one,
    remapNs: Math.min(one.remapNs, other.remapNs),
    touchNs: Math.min(one.touchNs, other.touchNs),
    copyNs: Math.min(one.copyNs, other.copyNs),
  };
}

/** A line through two samples: one of single pages, one of long runs. */
export function fitCosts(short: CostSample, long: CostSample): ExchangeCosts {
  const remap = fitLine(short, long, "remapNs");
  const copy = fitLine(short, long, "copyNs");
  return {
    remapSetupUs: DEFAULT_COSTS.basePages.remapSetupUs,
    remapPerExtentUs: remap.perExtentUs,
    remapPerPageUs: remap.perPageUs,
    // Long runs share page tables and are touched in order, scattered pages are not: the mean of both.
    touchPerPageUs: (short.touchNs / short.pages + long.touchNs / long.pages) / 2000,
    copyPerExtentUs: copy.perExtentUs,
    copyPerPageUs: copy.perPageUs,
  };
}

/** On huge pages the unit is one huge page: all of its cost is put on the extent, the rest follows the pages. */
export function fitHugeCosts(sample: CostSample): ExchangeCosts {
  return {
    ...DEFAULT_COSTS.hugePages,
    remapPerExtentUs: sample.remapNs / (sample.pages / PAGES_PER_HUGE) / 1000,
    touchPerPageUs: sample.touchNs / sample.pages / 1000,
    copyPerPageUs: sample.copyNs / sample.pages / 1000,
  };
}

function fitLine(
  short: CostSample,
  long: CostSample,
  key: "remapNs" | "copyNs",
): { perExtentUs: number; perPageUs: number } {
  // Per extent of r pages: cost(r) = perExtent + r * perPage.
  const shortCost = short[key] / (short.pages / short.runPages) / 1000;
  const longCost = long[key] / (long.pages / long.runPages) / 1000;
  const slope = (longCost - shortCost) / (long.runPages - short.runPages);
  const perPageUs = Math.max(0, Math.min(slope, longCost / long.runPages));
  return { perExtentUs: Math.max(0, shortCost - perPageUs * short.runPages), perPageUs };
}

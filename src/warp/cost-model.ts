/** What remapping and copying cost on a host, in microseconds, and how that is made out of measurements. */
import type { ExchangeCosts, MemoryKind } from "../protocol/costs.js";

export type { ExchangeCosts };
export type CostModel = Readonly<Record<MemoryKind, ExchangeCosts>>;

/** Measured once on a machine of 2023; they hold where nothing better is known. */
export const DEFAULT_COSTS: CostModel = {
  "4k": {
    remapSetupUs: 500,
    remapPerExtentUs: 8,
    remapPerPageUs: 0.1,
    touchPerExtentUs: 0.5,
    touchPerPageUs: 0.5,
    copySetupUs: 150,
    copyPerExtentUs: 0.2,
    copyPerPageUs: 0.5,
  },
  thp: {
    remapSetupUs: 500,
    remapPerExtentUs: 10,
    remapPerPageUs: 0.01,
    touchPerExtentUs: 5,
    touchPerPageUs: 0.01,
    copySetupUs: 150,
    copyPerExtentUs: 0.1,
    copyPerPageUs: 0.3,
  },
  hugetlb: {
    remapSetupUs: 500,
    remapPerExtentUs: 10,
    remapPerPageUs: 0.004,
    touchPerExtentUs: 1,
    touchPerPageUs: 0.01,
    copySetupUs: 150,
    copyPerExtentUs: 0.1,
    copyPerPageUs: 0.3,
  },
};

/** One measurement: so many extents, each of so many pages. Times of all of them together, us. */
export interface CostSample {
  readonly extents: number;
  readonly runPages: number;
  /** Null: not measured with such extents. */
  readonly remapUs: number | null;
  /** What touching every page took more than once all are mapped. */
  readonly touchUs: number | null;
  readonly copyUs: number;
}

/** One extent alone, many short ones, and few long ones: a line through the latter two, with what the first takes put apart. */
export interface CostSamples {
  readonly one: CostSample;
  readonly short: CostSample;
  readonly long: CostSample;
  /** The shortest that can be remapped, where that is not `short`: whole huge pages. */
  readonly shortRemap: CostSample;
}

/** Never negative, however noisy the samples: a slope that is gives way to the mean of the longer runs. */
export function fitCosts({ one, short, long, shortRemap }: CostSamples): ExchangeCosts {
  const remapSetupUs = setup(one.remapUs, shortRemap, shortRemap.remapUs);
  const copySetupUs = setup(one.copyUs, short, short.copyUs);
  const remap = fitLine(shortRemap, long, (sample) => (sample.remapUs ?? 0) - remapSetupUs);
  const touch = fitLine(shortRemap, long, (sample) => sample.touchUs ?? 0);
  const copy = fitLine(short, long, (sample) => sample.copyUs - copySetupUs);
  return {
    remapSetupUs,
    remapPerExtentUs: remap.perExtentUs,
    remapPerPageUs: remap.perPageUs,
    touchPerExtentUs: touch.perExtentUs,
    touchPerPageUs: touch.perPageUs,
    copySetupUs,
    copyPerExtentUs: copy.perExtentUs,
    copyPerPageUs: copy.perPageUs,
  };
}

/** What one extent takes is set-up for the most part; but never more than many take. */
function setup(oneUs: number | null, many: CostSample, manyUs: number | null): number {
  const ofOne = Math.max(0, oneUs ?? 0);
  return Math.min(ofOne, Math.max(0, manyUs ?? 0) * (1 - 1 / Math.max(2, many.extents)));
}

interface Line {
  readonly perExtentUs: number;
  readonly perPageUs: number;
}

/** Per extent of r pages: cost(r) = perExtent + r * perPage. */
function fitLine(short: CostSample, long: CostSample, total: (sample: CostSample) => number): Line {
  const shortCost = Math.max(0, total(short)) / short.extents;
  const longCost = Math.max(0, total(long)) / long.extents;
  const slope = (longCost - shortCost) / (long.runPages - short.runPages);
  const perPageUs = Math.max(0, Math.min(slope, longCost / long.runPages));
  return { perExtentUs: Math.max(0, shortCost - perPageUs * short.runPages), perPageUs };
}

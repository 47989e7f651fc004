/**
 * The bars of the project as data: what is compared, how it is computed from the records, and what must be reached.
 * A figure with fewer runs than a bar asks for is shown, but decides nothing.
 */

import { GIB } from "../units.js";
import { baselineRates } from "./bars/baselines.js";
import {
  againstFloor,
  againstPostcopy,
  largeAgainstSmall,
  SMALL,
  stagedTotalAgainstEager,
} from "./bars/downtimes.js";
import { bytesCrossed, peakMemory } from "./bars/memory.js";
import { plannerMeasured, plannerPredicted } from "./bars/planner.js";
import { redisLoss } from "./bars/redis.js";
import { stallsAgainstPostcopy } from "./bars/stalls.js";
import { stunAgainstCopy, stunWithTouch } from "./bars/stun.js";
import {
  against,
  againstWriter,
  type Comparison,
  downtimeAgainstCold,
  totalAgainstBest,
  totalAgainstCold,
} from "./bars/times.js";
import type { Results } from "./results.js";
import type { Estimate } from "./statistics.js";

/** What the records give for one setting. */
export interface Found {
  /** "hugetlb, guest THP". */
  readonly setting: string;
  /** Null when it could not be computed; the note then says why. */
  readonly estimate: Estimate | null;
  readonly note: string | null;
}

export interface Bar {
  readonly figure: string;
  /** How it is computed, for people. */
  readonly how: string;
  /** `ratio` is shown as 0.123, `percent` as 12.3 %. */
  readonly unit: "ratio" | "percent";
  readonly limit: { readonly kind: "at most" | "at least"; readonly value: number };
  /** Runs without which the figure decides nothing. */
  readonly runs: number;
  /** True for bars that ask that the 95 % interval lies above 0. */
  readonly aboveZero?: true;
  readonly find: (results: Results) => readonly Found[];
  /** For bars that compare a time of warp with that of other methods: what they compare. */
  readonly comparison?: Comparison;
}

const ratio = (value: number): Pick<Bar, "unit" | "limit"> => ({
  unit: "ratio",
  limit: { kind: "at most", value },
});
const percent = (kind: Bar["limit"]["kind"], value: number): Pick<Bar, "unit" | "limit"> => ({
  unit: "percent",
  limit: { kind, value },
});

const compare = (comparison: Comparison): Pick<Bar, "find" | "comparison"> => ({
  comparison,
  find: against(comparison),
});

export const bars: readonly Bar[] = [
  {
    figure: "total time, 1 GiB, against cold",
    how: "median total of warp / of cold; one process that writes nothing",
    ...ratio(1 / 8),
    runs: 10,
    ...compare(totalAgainstCold),
  },
  {
    figure: "total time, 1 GiB, against the best of the three baselines",
    how: "median total of warp / smallest of the medians of cold, precopy, postcopy",
    ...ratio(1 / 4),
    runs: 10,
    ...compare(totalAgainstBest),
  },
  {
    figure: "downtime, 1 GiB, against cold",
    how: "median downtime of warp / of cold",
    ...ratio(1 / 10),
    runs: 10,
    ...compare(downtimeAgainstCold),
  },
  {
    figure: "downtime, 1 GiB, against pre-copy with a writer",
    how: "median downtime of warp / of precopy, from runs in which every round after the first, and the dump, had at least half of the pages to send again",
    ...ratio(1 / 5),
    runs: 10,
    find: againstWriter,
  },
  {
    figure: "stun, 1 GiB, hugetlb and guest THP, against copying",
    how: "median stun (walk, validate, plan, exchange, commit) of warp / of warp with --backend copy",
    ...ratio(1 / 4),
    runs: 10,
    find: stunAgainstCopy,
  },
  {
    figure: "stun and first touch of every page, the same",
    how: "median of stun + first touch of warp / of warp with --backend copy",
    ...ratio(1 / 2),
    runs: 10,
    find: stunWithTouch,
  },
  {
    figure: "Redis throughput lost, against pre-copy",
    how: "1 - median share of the expected operations lost in the window with warp / with precopy",
    ...percent("at least", 0.2),
    runs: 10,
    aboveZero: true,
    find: redisLoss,
  },
  {
    figure: "bytes over the network or the agent channels, 1 GiB",
    how: "(network_bytes + channel_bytes) / memory of the container; everything on both channels counts, images and answers too",
    ...percent("at most", 0.01),
    runs: 10,
    find: bytesCrossed,
  },
  {
    figure: "peak memory of both VMMs and the daemon, 1 GiB",
    how: "(highest PSS - PSS before) / 1 GiB",
    ...percent("at most", 0.05),
    runs: 10,
    find: peakMemory,
  },
  {
    figure: "planner, predicted, against the best single way",
    how: "largest of predicted auto / smaller of predicted remap and copy, over all layouts",
    ...ratio(1),
    runs: 1,
    find: plannerPredicted,
  },
  {
    figure: "planner, measured, against the best single way",
    how: "median measured auto / smaller of the medians of remap and copy, by layout",
    ...ratio(1.25),
    runs: 20,
    find: plannerMeasured,
  },
  {
    figure: "baselines: rate of pages, against raw TCP",
    how: "page bytes on the network / time of the phase that carries them (cold: dump, precopy: rounds, postcopy: retire), over the raw TCP rate of the same run",
    ...percent("at least", 0.7),
    runs: 10,
    find: baselineRates,
  },
  {
    figure: "downtime, 1 GiB, against 16 MiB, staged",
    how: "median downtime of warp with --strategy staged at 1 GiB / at 16 MiB",
    ...ratio(1.15),
    runs: 15,
    find: largeAgainstSmall("staged"),
  },
  {
    figure: "downtime, 1 GiB, against 16 MiB, eager",
    how: "the same with --strategy eager",
    ...ratio(1.5),
    runs: 15,
    find: largeAgainstSmall("eager"),
  },
  {
    figure: "total time, 1 GiB, staged against eager",
    how: "median total of warp with --strategy staged / with --strategy eager",
    ...ratio(1.3),
    runs: 15,
    find: stagedTotalAgainstEager,
  },
  {
    figure: "downtime, 1 GiB, against post-copy",
    how: "median downtime of warp, staged where that was measured / of postcopy, which moves the pages after it",
    ...ratio(0.8),
    runs: 15,
    find: againstPostcopy(GIB),
  },
  {
    figure: "downtime, 16 MiB, against post-copy",
    how: "the same",
    ...ratio(1.05),
    runs: 15,
    find: againstPostcopy(SMALL),
  },
  {
    figure: "downtime, 1 GiB, against stock runc on 1 MiB in one VM",
    how: "median downtime of warp / median time in which a process of 1 MiB does not run while plain runc checkpoint and runc restore follow each other on tmpfs",
    ...ratio(1.25),
    runs: 15,
    find: againstFloor,
  },
  {
    figure: "page stalls after the move under load, against post-copy",
    how: "99th percentile of the first accesses to all pages of a container that is busy with them, median of warp / of postcopy",
    ...ratio(1 / 2),
    runs: 10,
    find: stallsAgainstPostcopy,
  },
];

export type Verdict = "met" | "not met" | "not measured";

export interface Finding extends Found {
  readonly verdict: Verdict;
}

/** Never empty: a bar that nothing was measured for says so. */
export function judge(bar: Bar, results: Results): Finding[] {
  const found = bar.find(results);
  if (found.length === 0) return [{ setting: "", estimate: null, note: null, verdict: "not measured" }];
  return found.map((one) => judgeOne(bar, one));
}

function judgeOne(bar: Bar, found: Found): Finding {
  const { estimate } = found;
  const remark = (text: string): string => (found.note === null ? text : `${text}; ${found.note}`);
  if (estimate === null) return { ...found, verdict: "not measured" };
  if (estimate.runs < bar.runs)
    return { ...found, verdict: "not measured", note: remark(`${estimate.runs} of ${bar.runs} runs`) };
  if (!reaches(bar, estimate.value)) return { ...found, verdict: "not met" };
  if (bar.aboveZero && !(estimate.low !== null && estimate.low > 0))
    return { ...found, verdict: "not met", note: remark("the interval does not exclude 0") };
  const worst = bar.limit.kind === "at most" ? estimate.high : estimate.low;
  if (worst !== null && !reaches(bar, worst))
    return { ...found, verdict: "met", note: remark("the interval goes past the bar") };
  return { ...found, verdict: "met" };
}

const reaches = ({ limit }: Bar, value: number): boolean =>
  limit.kind === "at most" ? value <= limit.value : value >= limit.value;

/** Of all settings together: one that is not met spoils the bar, one that is not measured leaves it open. */
export function verdictOf(findings: readonly Finding[]): Verdict {
  if (findings.some(({ verdict }) => verdict === "not met")) return "not met";
  return findings.some(({ verdict }) => verdict === "not measured") ? "not measured" : "met";
}

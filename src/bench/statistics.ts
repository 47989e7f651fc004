/**
 * Medians, quartiles, and ratios of medians with their uncertainty. Runs are interleaved: each round runs every cell once, so what
 * drifts with time (load, caches, heat) is alike for all values of a round. The bootstrap therefore draws rounds, not values.
 */
import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { linearRegression, median, quantileSorted, sampleWithReplacement } from "simple-statistics";

/** One value for each round, by the round's number. */
export type Series = ReadonlyMap<number, number>;

export interface Spread {
  readonly runs: number;
  readonly median: number;
  /** Quartiles, interpolated between neighbours (type 7 of Hyndman and Fan, 1996, as in R and NumPy). */
  readonly q1: number;
  readonly q3: number;
}

/** A figure with its 95 % interval; `low` and `high` are null when there are too few runs to tell. */
export interface Estimate {
  readonly value: number;
  readonly low: number | null;
  readonly high: number | null;
  readonly runs: number;
}

/** Of fewer, even the whole range holds the true median less often than 95 times in 100: 1 - 2 / 2^5 is 0.94. */
const LEAST_RUNS = 6;
const RESAMPLES = 4000;
const SEED = 20190429;

/** Null for no values. */
export function spread(values: Iterable<number>): Spread | null {
  const sorted = [...values].sort((a, b) => a - b);
  if (sorted.length === 0) return null;
  const [q1, middle, q3] = [0.25, 0.5, 0.75].map((share) => quantileSorted(sorted, share));
  return { runs: sorted.length, median: middle, q1, q3 };
}

/** Median of one series; null for no rounds. */
export const medianOf = (series: Series): Estimate | null =>
  estimate([...series.keys()], (rounds) => median(rounds.map((round) => series.get(round)!)));

/**
 * Median of `series` over the smallest median of `others`, from the rounds that all of them have. Null when there is none, or
 * when the smallest median is not above 0.
 */
export function medianRatio(series: Series, others: readonly Series[]): Estimate | null {
  const rounds = [...series.keys()].filter((round) => others.every((other) => other.has(round)));
  const smallest = (drawn: readonly number[]): number =>
    Math.min(...others.map((other) => median(drawn.map((round) => other.get(round)!))));
  if (rounds.length === 0 || others.length === 0 || !(smallest(rounds) > 0)) return null;
  return estimate(rounds, (drawn) => median(drawn.map((round) => series.get(round)!)) / smallest(drawn));
}

/** Least squares through points (x, y): what y grows by for 1 of x. Null when all x are the same. */
export function slope(points: readonly (readonly [x: number, y: number])[]): number | null {
  const { m } = linearRegression(points.map(([x, y]) => [x, y]));
  return new Set(points.map(([x]) => x)).size < 2 ? null : m;
}

/**
 * Percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13) with a fixed seed, so that the
 * same results always give the same report. Not the bias-corrected one: its acceleration comes from the jackknife, which is
 * inconsistent for medians (chapter 10 there).
 */
function estimate(
  rounds: readonly number[],
  statistic: (rounds: readonly number[]) => number,
): Estimate | null {
  if (rounds.length === 0) return null;
  const sorted = [...rounds].sort((a, b) => a - b);
  const value = statistic(sorted);
  if (sorted.length < LEAST_RUNS) return { value, low: null, high: null, runs: sorted.length };
  const generator = xoroshiro128plus(SEED);
  const random = (): number => uniformFloat64(generator);
  const drawn = Array.from({ length: RESAMPLES }, () =>
    statistic(sampleWithReplacement(sorted, sorted.length, random)),
  ).sort((a, b) => a - b);
  return {
    value,
    low: quantileSorted(drawn, 0.025),
    high: quantileSorted(drawn, 0.975),
    runs: sorted.length,
  };
}

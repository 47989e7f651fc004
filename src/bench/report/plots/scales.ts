/** Axes that several plots share. Expressions are Vega's: they run where the plot is drawn. */
import { GIB, MIB } from "../../results.js";

/** Ticks of a time axis in ms, as "5 ms" or "2 s". */
const timeLabels =
  "datum.value === 0 ? '0' : datum.value >= 1000 ? format(datum.value / 1000, '~g') + ' s' : format(datum.value, '~g') + ' ms'";

/**
 * A logarithmic axis of times, ms, that reaches round values on both sides of all `times` (those above 0), with `ticks` ticks
 * at most. Vega's own ticks leave out round values where labels get close.
 */
export function logTime(times: Iterable<number>, ticks = 7) {
  const values = roundValues(times, ticks);
  return {
    type: "quantitative",
    scale: logScale(values),
    axis: { values, labelExpr: timeLabels, title: null },
  } as const;
}

/** From the first to the last of some round values. */
export const logScale = (values: readonly number[]): { type: "log"; domain: number[]; nice: false } => ({
  type: "log",
  domain: [values[0], values[values.length - 1]],
  nice: false,
});

/** Powers of ten with their double and half as far as there is room, from below the least to above the greatest. */
export function roundValues(numbers: Iterable<number>, most: number): number[] {
  const positive = [...numbers].filter((number) => number > 0);
  if (positive.length === 0) return [1, 10];
  const [least, greatest] = [Math.min(...positive), Math.max(...positive)];
  const around = (steps: readonly number[]): number[] => {
    const all: number[] = [];
    for (let power = Math.floor(Math.log10(least)); power <= Math.ceil(Math.log10(greatest)); power++)
      all.push(...steps.map((step) => Number((step * 10 ** power).toPrecision(2))));
    const from = all.findLastIndex((value) => value <= least);
    const to = all.findIndex((value) => value >= greatest);
    return all.slice(Math.max(0, from), Math.max(to, from + 1) + 1);
  };
  const fine = around([1, 2, 5]);
  return fine.length <= most ? fine : around([1]);
}

/** A linear axis of times from 0, ms. */
export const linearTime = {
  type: "quantitative",
  scale: { zero: true },
  axis: { labelExpr: timeLabels, title: null, tickCount: 6, labelOverlap: true },
} as const;

/** A logarithmic axis of sizes in bytes with a tick at each of `sizes`. */
export const sizeAxis = (sizes: readonly number[]) =>
  ({
    type: "quantitative",
    scale: { type: "log", base: 2 },
    axis: {
      values: [...sizes],
      labelExpr: `datum.value >= ${GIB} ? datum.value / ${GIB} + ' GiB' : datum.value / ${MIB} + ' MiB'`,
      title: "memory of the container",
      grid: false,
      labelOverlap: true,
    },
  }) as const;

export const ascending = (values: Iterable<number>): number[] => [...new Set(values)].sort((a, b) => a - b);

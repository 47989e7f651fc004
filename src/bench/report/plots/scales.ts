/** Axes that several plots share. Expressions are Vega's: they run where the plot is drawn. */
import { GIB, MIB } from "../../../units.js";

/** Ticks of a time axis in ms, as "5 ms" or "2 s". */
const timeLabels =
  "datum.value === 0 ? '0' : datum.value >= 1000 ? format(datum.value / 1000, '~g') + ' s' : format(datum.value, '~g') + ' ms'";

/** A logarithmic axis of times, ms, around all of `times` that are above 0, with `most` ticks or fewer. */
export function logTime(times: Iterable<number>, most = 9) {
  const { scale, values } = logScale(times, most);
  return {
    type: "quantitative",
    scale,
    axis: { values, labelExpr: timeLabels, title: null },
  } as const;
}

interface LogScale {
  readonly scale: { type: "log"; domain: number[]; nice: false };
  readonly values: number[];
}

/**
 * From a round value below all numbers to one above them, with ticks at round values: 1, 2 and 5 of each decade where there is
 * room, else 1. Vega's own ticks are any digits, and lose the round ones where labels get close.
 */
export function logScale(numbers: Iterable<number>, most: number): LogScale {
  const positive = [...numbers].filter((number) => number > 0);
  const [least, greatest] = positive.length === 0 ? [1, 10] : [Math.min(...positive), Math.max(...positive)];
  const all: number[] = [];
  // One decade more below: a logarithm can come out a little too large.
  for (let power = Math.floor(Math.log10(least)) - 1; power <= Math.ceil(Math.log10(greatest)); power++)
    all.push(...[1, 2, 5].map((step) => Number((step * 10 ** power).toPrecision(1))));
  const from = all.findLastIndex((value) => value <= least);
  const to = Math.max(
    from + 1,
    all.findIndex((value) => value >= greatest),
  );
  const fine = all.slice(from, to + 1);
  const coarse = fine.filter((value) => Number.isInteger(Number(Math.log10(value).toFixed(9))));
  return {
    scale: { type: "log", domain: [fine[0], fine[fine.length - 1]], nice: false },
    values: fine.length <= most ? fine : coarse,
  };
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

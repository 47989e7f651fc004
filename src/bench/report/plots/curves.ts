/** Medians along one parameter of the cell, a line for each method: what sizes, writers and processes have in common. */
import type { TopLevelSpec } from "vega-lite";
import type { Cell, MigrationRecord } from "../../records.js";
import { type Variant, variantOf, variants } from "../../results.js";
import { type Spread, spread } from "../../statistics.js";
import type { Figure, LegendEntry, Table } from "../figure.js";
import { formatSpread, formatTime } from "../format.js";
import { colorScale, methodLegend } from "../theme.js";
import { ascending, logTime } from "./scales.js";

export interface Curves {
  readonly title: string;
  readonly note: string;
  readonly records: readonly MigrationRecord[];
  readonly x: (cell: Cell) => number;
  /** Encoding of the x axis for the values that there are; the field is named `x`. */
  readonly axis: (values: readonly number[]) => object;
  readonly nameOfX: (value: number) => string;
  /** Heading of the table's first column. */
  readonly head: string;
  readonly y: (record: MigrationRecord) => number;
}

interface Point extends Spread {
  readonly x: number;
  readonly variant: Variant;
}

/** One value of x alone makes no plot, only a table. */
export function curves(input: Curves): Figure {
  const { title, note, records } = input;
  const xs = ascending(records.map(({ cell }) => input.x(cell)));
  const points = xs.flatMap((x) =>
    variants.flatMap((variant): Point[] => {
      const here = records.filter(({ cell }) => input.x(cell) === x && variantOf(cell) === variant);
      const values = spread(here.map(input.y));
      return values === null ? [] : [{ x, variant, ...values }];
    }),
  );
  const legend = methodLegend(points.map(({ variant }) => variant));
  const plot = {
    spec: (width: number) => spec(points, legend, input.axis(xs), width),
    legend,
    reading: "Points are medians, bars reach from quartile to quartile; times are on a logarithmic axis.",
  };
  return { title, note, plot: xs.length < 2 ? null : plot, table: table(input, xs, points, legend) };
}

function spec(
  points: readonly Point[],
  legend: readonly LegendEntry[],
  x: object,
  width: number,
): TopLevelSpec {
  const time = logTime(points.flatMap(({ q1, q3 }) => [q1, q3]));
  return {
    width: width - 60,
    height: Math.round(Math.min(300, width * 0.7)),
    data: { values: [...points] },
    encoding: {
      x: { field: "x", ...x },
      color: { field: "variant", type: "nominal", ...colorScale(legend) },
    },
    layer: [
      // Quartiles: half of all runs lie on the bar.
      {
        mark: { type: "rule", strokeWidth: 5, opacity: 0.3, strokeCap: "round" },
        encoding: { y: { field: "q1", ...time }, y2: { field: "q3" } },
      },
      { mark: { type: "line", strokeWidth: 1.8 }, encoding: { y: { field: "median", ...time } } },
      {
        mark: { type: "point", filled: true, size: 34, opacity: 1 },
        encoding: { y: { field: "median", ...time } },
      },
    ],
  };
}

function table(
  input: Curves,
  xs: readonly number[],
  points: readonly Point[],
  legend: readonly LegendEntry[],
): Table {
  const cell = (x: number, name: string): string =>
    formatSpread(points.find((point) => point.x === x && point.variant === name) ?? null, formatTime);
  const runs = (x: number): string => {
    const counts = ascending(points.filter((point) => point.x === x).map((point) => point.runs));
    return counts.length === 1 ? String(counts[0]) : `${counts[0]} to ${counts.at(-1)}`;
  };
  return {
    head: [input.head, ...legend.map(({ name }) => name), "runs"],
    rows: xs.map((x) => [input.nameOfX(x), ...legend.map(({ name }) => cell(x, name)), runs(x)]),
  };
}

/** How long pages take when a busy container first accesses them after the move: a panel for each method. */
import type { TopLevelSpec } from "vega-lite";
import { stallGroups } from "../../bars/stalls.js";
import type { StallRecord } from "../../records.js";
import { type Results, type Variant, variantOf, variants } from "../../results.js";
import { addBuckets, stallQuantile } from "../../stall-histogram.js";
import { spread } from "../../statistics.js";
import type { Figure, Table } from "../figure.js";
import { formatShortTime, formatSpread } from "../format.js";
import { methodColor, methodLegend, still } from "../theme.js";
import { logScale, logTime } from "./scales.js";

interface Group {
  readonly variant: Variant;
  readonly records: readonly StallRecord[];
}

export function stallFigures({ stalls }: Results): Figure[] {
  return stallGroups(stalls).map(([place, here]) => {
    const groups = variants.flatMap((variant): Group[] => {
      const records = here.filter(({ cell }) => variantOf(cell) === variant);
      return records.length === 0 ? [] : [{ variant, records }];
    });
    return {
      title: `Page stalls: ${place}`,
      note:
        "A thread of the container reads and writes a word of each page in random order while it is moved, and after the move once more, each access timed " +
        "by itself. Under emulation the clock's own time is in it. Medians over the runs of each run's percentiles, in brackets the quartiles.",
      plot: {
        spec: (width) => histograms(groups, width),
        legend: methodLegend(groups.map(({ variant }) => variant)),
        reading:
          "Share of all pages, of all runs together, by how long the first access took, four bars to a doubling; both axes are logarithmic. Line: 99 % took no longer.",
      },
      table: table(groups),
    };
  });
}

const MS = 1e6;
/** Ticks in the unit that makes them short. */
const labels =
  "datum.value >= 1000 ? format(datum.value / 1000, '~g') + ' s' : datum.value >= 1 ? format(datum.value, '~g') + ' ms' : " +
  "datum.value >= 0.001 ? format(datum.value * 1000, '~g') + ' µs' : format(datum.value * 1e6, '~g') + ' ns'";

/** One below the other with the same axes. */
function histograms(groups: readonly Group[], width: number): TopLevelSpec {
  const panels = groups.map(({ variant, records }) => {
    const buckets = addBuckets(records.map(({ stalls }) => stalls.histogram));
    const all = buckets.reduce((sum, { pages }) => sum + pages, 0);
    const bars = buckets.map(({ from_ns, to_ns, pages }) => ({
      // A logarithm of 0 is none.
      from: Math.max(1, from_ns) / MS,
      to: to_ns / MS,
      share: pages / all,
    }));
    return { variant, bars, p99: stallQuantile(buckets, 0.99) };
  });
  const all = panels.flatMap(({ bars }) => bars);
  const time = logTime(
    all.flatMap(({ from, to }) => [from, to]),
    7,
  );
  const share = logScale([...all.map((bar) => bar.share), 1], 4);
  const [least] = share.scale.domain;
  const vconcat = panels.map(({ variant, bars, p99 }, index) => {
    const last = index === panels.length - 1;
    const x = { ...time, axis: { ...time.axis, labelExpr: labels, labels: last, grid: false } };
    return {
      title: variant,
      width: width - 70,
      height: 90,
      layer: [
        {
          data: { values: bars.map((bar) => ({ ...bar, least })) },
          mark: { type: "rect", color: methodColor(variant) },
          encoding: {
            x: { field: "from", ...x },
            x2: { field: "to" },
            y: {
              field: "share",
              type: "quantitative",
              scale: share.scale,
              axis: { values: share.values, format: "~%", title: "pages" },
            },
            y2: { field: "least" },
          },
        },
        {
          data: { values: p99 === null ? [] : [{ from: p99 }] },
          mark: { type: "rule", color: still, strokeWidth: 1.2, strokeDash: [4, 3] },
          encoding: { x: { field: "from", ...x } },
        },
      ],
    };
  });
  // Built from parts whose types would have to be spelled out; Vega-Lite checks the whole when it compiles.
  return { spacing: 14, vconcat } as TopLevelSpec;
}

const quantiles = [0.5, 0.9, 0.99, 0.999] as const;

function table(groups: readonly Group[]): Table {
  const times = (records: readonly StallRecord[], value: (stalls: StallRecord["stalls"]) => number | null) =>
    formatSpread(spread(records.flatMap(({ stalls }) => value(stalls) ?? [])), formatShortTime);
  return {
    head: [
      "method",
      ...quantiles.map((share) => `p${Number((share * 100).toFixed(1))}`),
      "longest",
      "all pages in",
      "runs",
    ],
    rows: groups.map(({ variant, records }) => [
      variant,
      ...quantiles.map((share) => times(records, ({ histogram }) => stallQuantile(histogram, share))),
      times(records, ({ longest_ms }) => longest_ms),
      times(records, ({ window_ms }) => window_ms),
      String(records.length),
    ]),
  };
}

/** From which length of run on remapping is cheaper than copying. */
import type { TopLevelSpec } from "vega-lite";
import { formatBytes } from "../../../cli/output/format.js";
import { PAGE_BYTES } from "../../../units.js";
import type { CrossoverRecord } from "../../records.js";
import { nameOfSize, type Results } from "../../results.js";
import { type Spread, spread } from "../../statistics.js";
import type { Figure } from "../figure.js";
import { formatSpread } from "../format.js";
import { colorScale, first, second, third } from "../theme.js";
import { ascending, logScale } from "./scales.js";

/** ns for each page of 4 KiB. */
const ways = {
  remap: ({ remap_ms }: CrossoverRecord) => remap_ms,
  "remap and touch": ({ remap_ms, touch_ms }: CrossoverRecord) => remap_ms + touch_ms,
  copy: ({ copy_ms }: CrossoverRecord) => copy_ms,
} as const;
const reading = "Both axes are logarithmic.";
type Way = keyof typeof ways;
const names = Object.keys(ways) as Way[];
const legend = [
  { name: "remap", color: third },
  { name: "remap and touch", color: first },
  { name: "copy", color: second },
];

interface Point extends Spread {
  readonly run: number;
  readonly way: Way;
}

export function crossoverFigures({ crossovers }: Results): Figure[] {
  return ascending(crossovers.map(({ host_page_bytes }) => host_page_bytes)).map((bytes) => {
    const records = crossovers.filter(({ host_page_bytes }) => host_page_bytes === bytes);
    const runs = ascending(records.map(({ run_pages }) => run_pages));
    const points = runs.flatMap((run) =>
      names.flatMap((way): Point[] => {
        const here = records.filter(({ run_pages }) => run_pages === run);
        const values = spread(here.map((record) => (ways[way](record) * 1e6) / record.pages));
        return values === null ? [] : [{ run, way, ...values }];
      }),
    );
    return {
      title: `Remap or copy: ${nameOfSize(bytes)} host pages`,
      note: `Time for each page of 4 KiB against the length of a run of contiguous pages; measured on this host's memory without a VM. ${crossing(points, runs)}`,
      plot: runs.length < 2 ? null : { spec: (width) => spec(points, runs, width), legend, reading },
      table: {
        head: ["run", ...names.map((name) => `${name}, ns a page`)],
        rows: runs.map((run) => [
          nameOfRun(run),
          ...names.map((name) =>
            formatSpread(points.find((point) => point.run === run && point.way === name) ?? null, (value) =>
              value.toFixed(0),
            ),
          ),
        ]),
      },
    };
  });
}

const nameOfRun = (pages: number): string => formatBytes(pages * PAGE_BYTES).replace(".0 ", " ");

/** The shortest run from which on remapping with the touch after it stays cheaper at the median. */
function crossing(points: readonly Point[], runs: readonly number[]): string {
  const median = (run: number, name: Way): number =>
    points.find((point) => point.run === run && point.way === name)?.median ?? Number.NaN;
  const cheaper = (run: number): boolean => median(run, "remap and touch") < median(run, "copy");
  const dearest = runs.findLastIndex((run) => !cheaper(run));
  if (dearest === runs.length - 1) return "Copying was cheaper at the longest run measured.";
  if (dearest === -1) return "Remapping, the touch included, was cheaper at every length measured.";
  return `Remapping, the touch included, was cheaper from runs of ${nameOfRun(runs[dearest + 1])} on.`;
}

function spec(points: readonly Point[], runs: readonly number[], width: number): TopLevelSpec {
  const { scale, values } = logScale(
    points.flatMap(({ q1, q3 }) => [q1, q3]),
    7,
  );
  const y = {
    type: "quantitative",
    scale,
    axis: { values, format: "~s", title: "ns for each page of 4 KiB" },
  } as const;
  return {
    width: width - 70,
    height: Math.round(Math.min(280, width * 0.7)),
    data: { values: [...points] },
    encoding: {
      x: {
        field: "run",
        type: "quantitative",
        scale: { type: "log", base: 2 },
        axis: { values: [...runs], title: "length of run, pages of 4 KiB", grid: false, labelOverlap: true },
      },
      color: { field: "way", type: "nominal", ...colorScale(legend) },
    },
    layer: [
      {
        mark: { type: "rule", strokeWidth: 5, opacity: 0.3, strokeCap: "round" },
        encoding: { y: { field: "q1", ...y }, y2: { field: "q3" } },
      },
      { mark: { type: "line", strokeWidth: 1.8 }, encoding: { y: { field: "median", ...y } } },
      {
        mark: { type: "point", filled: true, size: 30, opacity: 1 },
        encoding: { y: { field: "median", ...y } },
      },
    ],
  };
}

/** What each method spends its time on. */
import type { TopLevelSpec } from "vega-lite";
import { isQuiet, nameOfSetting, nameOfSize, type Results, settingsOf } from "../../results.js";
import { type Breakdown, breakdowns } from "../breakdown.js";
import type { Figure, LegendEntry, Table } from "../figure.js";
import { formatTime } from "../format.js";
import { colorScale, ink, type PhasePart, phaseColor, phaseParts } from "../theme.js";
import { linearTime } from "./scales.js";

export function phaseFigures(results: Results): Figure[] {
  return settingsOf(results.migrations.filter(isQuiet)).map((setting) => {
    const list = breakdowns(results, setting);
    const used = phaseParts.filter((part) => list.some(({ parts }) => parts[part] > 0.0005));
    const legend = used.map((part) => ({ name: part, color: phaseColor(part) }));
    return {
      title: `Phases: ${nameOfSize(list[0].size)}, ${nameOfSetting(setting)}`,
      note: 'Means over the runs, because means of phases add up to the mean total; medians would not. "between" is time that no phase claims.',
      plot: { spec: (width) => spec(list, used, legend, width), legend, reading: "" },
      table: phaseTable(list, used),
    };
  });
}

function spec(
  list: readonly Breakdown[],
  used: readonly PhasePart[],
  legend: readonly LegendEntry[],
  width: number,
): TopLevelSpec {
  const bars = list.flatMap(({ variant, parts }) =>
    used.map((part, order) => ({ variant, part, order, time: Math.max(0, parts[part]) })),
  );
  const totals = list.map(({ variant, total }) => ({ variant, total, label: formatTime(total) }));
  const y = {
    field: "variant",
    type: "nominal",
    sort: null,
    axis: { title: null, domain: false, ticks: false },
  } as const;
  return {
    width: width - 130,
    height: { step: 34 },
    layer: [
      {
        data: { values: bars },
        mark: { type: "bar", height: 20 },
        encoding: {
          y,
          x: { field: "time", aggregate: "sum", ...linearTime },
          color: { field: "part", type: "nominal", ...colorScale(legend) },
          order: { field: "order", type: "quantitative" },
        },
      },
      {
        data: { values: totals },
        mark: { type: "text", align: "left", dx: 5, fontSize: 11, color: ink },
        encoding: { y, x: { field: "total", type: "quantitative" }, text: { field: "label" } },
      },
    ],
  };
}

/** A row for each phase and one for their sum. */
export function phaseTable(list: readonly Breakdown[], used: readonly PhasePart[]): Table {
  return {
    head: ["phase", ...list.map(({ variant }) => variant)],
    rows: [
      ...used.map((part) => [
        part,
        ...list.map(({ parts }) => (Math.abs(parts[part]) < 0.0005 ? "-" : formatTime(parts[part]))),
      ]),
      ["total", ...list.map(({ total }) => formatTime(total))],
      ["runs", ...list.map(({ runs }) => String(runs))],
    ],
  };
}

/** Throughput and latency of the applications around the move, a panel for each method. */
import type { TopLevelSpec } from "vega-lite";
import { type MigrationMethod, migrationMethods } from "../../../protocol/migration.js";
import {
  type Application,
  type ApplicationRecord,
  applications,
  type Backing,
  backings,
} from "../../records.js";
import { lostShare, nameOfBacking, type Results } from "../../results.js";
import { spread } from "../../statistics.js";
import type { Figure, LegendEntry, Plot, Table } from "../figure.js";
import { formatCount, formatPercent, formatSpread, formatTime } from "../format.js";
import { first, methodColor, second, still } from "../theme.js";
import { longestSilence, rateBefore, recovery, standstill } from "../window.js";
import { logTime } from "./scales.js";

const names: Readonly<Record<Application, string>> = {
  redis: "Redis",
  postgres: "PostgreSQL",
  memory: "Memory-bound program",
};

interface Group {
  readonly method: MigrationMethod;
  readonly records: readonly ApplicationRecord[];
  /** The run in the middle by what was lost: a real one, as an average of timelines would show a move that never was. */
  readonly shown: ApplicationRecord;
}

export function timelineFigures({ applications: records }: Results): Figure[] {
  return applications.flatMap((application) =>
    backings.flatMap((backing) => {
      const here = records.filter(
        (record) => record.application === application && record.backing === backing,
      );
      return here.length === 0 ? [] : figuresOf(application, backing, groupsOf(here));
    }),
  );
}

function groupsOf(records: readonly ApplicationRecord[]): Group[] {
  return migrationMethods.flatMap((method): Group[] => {
    const here = records.filter((record) => record.method === method);
    if (here.length === 0) return [];
    const sorted = here.toSorted((a, b) => (lostShare(a) ?? 0) - (lostShare(b) ?? 0));
    return [{ method, records: here, shown: sorted[Math.floor((sorted.length - 1) / 2)] }];
  });
}

function figuresOf(application: Application, backing: Backing, groups: readonly Group[]): Figure[] {
  const where = `${names[application]}, ${nameOfBacking(backing)}`;
  const [{ shown }] = groups;
  const drawn = groups.filter((group) => group.shown.samples.length > 0);
  const plotOf = (plot: Plot): Plot | null => (drawn.length === 0 ? null : plot);
  return [
    {
      title: `Throughput: ${where}`,
      note: `${shown.client}. Lost is the share of the operations that the rate before the command would have made in the window. Back at 95 %: from the end of the downtime until an interval has 95 % of the rate before, and the second from then on, too. Medians, in brackets the quartiles.`,
      plot: plotOf({
        spec: (width) => throughput(drawn, width),
        legend: groups.map(({ method }) => ({ name: method, color: methodColor(method) })),
        reading: `For each method the run that lost the median share. 0 is the command; grey: downtime, darker: both VMs paused, thin line: the end of the move. An interval is ${formatTime(shown.interval_ms)}.`,
      }),
      table: lossTable(groups),
    },
    {
      title: `Latency: ${where}`,
      note: "The longest answer and the longest time without one that the client saw in the window; medians, in brackets the quartiles.",
      plot: plotOf({
        spec: (width) => latency(drawn, width),
        legend: latencyLegend,
        reading:
          "The same runs: median and 99th percentile of the operations that ended in an interval, on a logarithmic axis. Gaps: none ended.",
      }),
      table: latencyTable(groups),
    },
  ];
}

const latencyLegend: readonly LegendEntry[] = [
  { name: "p50", color: first },
  { name: "p99", color: second },
];

interface Panels {
  readonly groups: readonly Group[];
  readonly width: number;
  /** Layers on top of the shading, for one group. */
  readonly layers: (group: Group) => readonly object[];
}

/** One below the other with one axis of time. */
function panels({ groups, width, layers }: Panels): TopLevelSpec {
  const times = groups.flatMap(({ shown }) => shown.samples.map(({ at_ms }) => at_ms / 1000));
  const domain = [Math.min(...times), Math.max(...times)];
  const concat = groups.map((group, index) => {
    const lastOne = index === groups.length - 1;
    const axis = { title: lastOne ? "s after the command" : null, labels: lastOne, grid: false };
    return {
      title: group.method,
      width: width - 70,
      height: 78,
      layer: [...shading(group, domain), ...layers(group)],
      encoding: { x: { field: "at", type: "quantitative", scale: { domain, nice: false }, axis } },
    };
  });
  // Built from parts whose types would have to be spelled out; Vega-Lite checks the whole when it compiles.
  return { spacing: 14, vconcat: concat } as TopLevelSpec;
}

function shading({ shown }: Group, [from, to]: readonly number[]): object[] {
  const { downtime, stun, end } = standstill(shown);
  const inside = (ms: number): number => Math.min(to, Math.max(from, ms / 1000));
  const spans = [
    { at: inside(downtime.from), until: inside(downtime.to), depth: 0.16 },
    ...(stun === null ? [] : [{ at: inside(stun.from), until: inside(stun.to), depth: 0.34 }]),
  ];
  return [
    {
      data: { values: spans },
      mark: { type: "rect", color: still },
      encoding: {
        x2: { field: "until" },
        opacity: { field: "depth", type: "quantitative", scale: null, legend: null },
      },
    },
    {
      data: { values: [0, end].map((ms) => ({ at: inside(ms) })) },
      mark: { type: "rule", color: still, strokeWidth: 0.8, opacity: 0.7 },
    },
  ];
}

/** "0", "500", "10k". */
const thousands = "datum.value < 1000 ? format(datum.value, '~g') : format(datum.value / 1000, '~g') + 'k'";

function throughput(groups: readonly Group[], width: number): TopLevelSpec {
  const rate = (record: ApplicationRecord): number[] =>
    record.samples.map(({ operations }) => (operations * 1000) / record.interval_ms);
  const top = Math.max(1, ...groups.flatMap(({ shown }) => rate(shown)));
  const layers = ({ method, shown }: Group): object[] => {
    const rates = rate(shown);
    return [
      {
        data: { values: shown.samples.map(({ at_ms }, index) => ({ at: at_ms / 1000, rate: rates[index] })) },
        mark: { type: "line", strokeWidth: 1.3, interpolate: "step-after", color: methodColor(method) },
        encoding: {
          y: {
            field: "rate",
            type: "quantitative",
            scale: { domain: [0, top] },
            axis: { title: "per second", tickCount: 3, labelExpr: thousands },
          },
        },
      },
    ];
  };
  return panels({ groups, width, layers });
}

function latency(groups: readonly Group[], width: number): TopLevelSpec {
  const all = groups.flatMap(({ shown }) =>
    shown.samples.flatMap(({ p50_ms, p99_ms }) => [p50_ms, p99_ms].filter((ms) => ms !== null && ms > 0)),
  ) as number[];
  const y = logTime(all, 4);
  const layers = ({ shown }: Group): object[] =>
    latencyLegend.map(({ name, color }) => ({
      data: {
        // A logarithm of 0 is none: what is faster than the clock tells is a gap, too.
        values: shown.samples.map(({ at_ms, p50_ms, p99_ms }) => ({
          at: at_ms / 1000,
          time: (name === "p50" ? p50_ms : p99_ms) || null,
        })),
      },
      mark: { type: "line", strokeWidth: 1.2, color },
      encoding: { y: { field: "time", ...y } },
    }));
  return panels({ groups, width, layers });
}

function lossTable(groups: readonly Group[]): Table {
  return {
    head: [
      "method",
      "per second before",
      "lost",
      "downtime",
      "back at 95 % after",
      "lost connections",
      "wrong answers",
      "runs",
    ],
    rows: groups.map(({ method, records }) => [
      method,
      formatSpread(spread(records.map((record) => rateBefore(record) * 1000)), formatCount),
      formatSpread(spread(records.flatMap((record) => lostShare(record) ?? [])), formatPercent),
      formatSpread(spread(records.map(({ report }) => report.time_ms.downtime)), formatTime),
      backAfter(records),
      String(records.reduce((sum, { faults }) => sum + faults.connections_lost, 0)),
      String(records.reduce((sum, { faults }) => sum + faults.wrong_answers, 0)),
      String(records.length),
    ]),
  };
}

/** A median of those that came back alone would flatter: how many did not is said beside it. */
function backAfter(records: readonly ApplicationRecord[]): string {
  const times = records.flatMap((record) => recovery(record) ?? []);
  const late = records.length - times.length;
  const words = late === 0 ? "" : `${late} of ${records.length} not in the window`;
  return [formatSpread(spread(times), formatTime), words].filter((part) => part !== "").join("; ");
}

function latencyTable(groups: readonly Group[]): Table {
  const highest = ({ samples }: ApplicationRecord): number =>
    Math.max(0, ...samples.map(({ max_ms }) => max_ms ?? 0));
  return {
    head: ["method", "longest answer", "longest silence", "runs"],
    rows: groups.map(({ method, records }) => [
      method,
      formatSpread(spread(records.map(highest)), formatTime),
      formatSpread(spread(records.map(longestSilence)), formatTime),
      String(records.length),
    ]),
  };
}

/** What a move costs the host: memory, processor time, and bytes moved. */
import type { TopLevelSpec } from "vega-lite";
import { formatBytes } from "../../../cli/output/format.js";
import { MIB, PAGE_BYTES } from "../../../units.js";
import type { MigrationRecord, Usage } from "../../records.js";
import {
  comparedSettings,
  isIn,
  isQuiet,
  nameOfSetting,
  nameOfSize,
  type Results,
  type Variant,
  variantOf,
  variants,
} from "../../results.js";
import { spread } from "../../statistics.js";
import { sizeOfFigures } from "../breakdown.js";
import type { Figure, LegendEntry } from "../figure.js";
import { formatDifference, formatSpread, formatTime } from "../format.js";
import { colorScale, first, second, still, third } from "../theme.js";

interface Group {
  readonly variant: Variant;
  readonly records: readonly MigrationRecord[];
}
type Value = (record: MigrationRecord) => number;

export function hostFigures({ migrations }: Results): Figure[] {
  const quiet = migrations.filter(isQuiet);
  return comparedSettings(quiet).flatMap((setting) => {
    const here = quiet.filter(({ cell }) => isIn(cell, setting));
    const size = sizeOfFigures(here);
    const groups = variants.flatMap((variant): Group[] => {
      const records = here.filter(({ cell }) => cell.size === size && variantOf(cell) === variant);
      return records.length === 0 ? [] : [{ variant, records }];
    });
    const where = `${nameOfSize(size)}, ${nameOfSetting(setting)}`;
    return [memory(groups, where), processor(groups, where), bandwidth(groups, where)];
  });
}

const median = (records: readonly MigrationRecord[], value: Value): number =>
  spread(records.map(value))?.median ?? 0;

function memory(groups: readonly Group[], where: string): Figure {
  const before: Value = ({ usage }) => usage.pss.before;
  const peak: Value = ({ usage }) => usage.pss.peak;
  const difference: Value = (record) => peak(record) - before(record);
  const parts = [
    { name: "before", color: still, value: before },
    { name: "peak", color: first, value: peak },
  ];
  return {
    title: `Host memory: ${where}`,
    note: "Proportional set size of both VMMs and the daemon together: before the command, and the highest seen up to its answer. Medians.",
    plot: { spec: (width) => sideBySide(groups, parts, width), legend: parts, reading: "" },
    table: {
      head: ["method", "before", "peak", "difference"],
      rows: groups.map(({ variant, records }) => [
        variant,
        formatBytes(median(records, before)),
        formatBytes(median(records, peak)),
        formatSpread(spread(records.map(difference)), formatDifference),
      ]),
    },
  };
}

type Part = LegendEntry & { readonly value: Value };

const methodAxis = {
  field: "variant",
  type: "nominal",
  sort: null,
  axis: { title: null, domain: false, ticks: false },
} as const;

function sideBySide(groups: readonly Group[], parts: readonly Part[], width: number): TopLevelSpec {
  const values = groups.flatMap(({ variant, records }) =>
    parts.map(({ name, value }) => ({ variant, name, bytes: median(records, value) / 1024 ** 3 })),
  );
  return {
    width: width - 100,
    height: { step: 16, for: "offset" },
    data: { values },
    mark: { type: "bar", height: 12 },
    encoding: {
      y: methodAxis,
      yOffset: { field: "name", type: "nominal", sort: null },
      x: { field: "bytes", type: "quantitative", title: "GiB" },
      color: { field: "name", type: "nominal", ...colorScale(parts) },
    },
  };
}

/** One bar a method, of the medians of all parts. `in`: how many of a value's unit the axis counts as one. */
function stacked(
  groups: readonly Group[],
  parts: readonly Part[],
  axis: { readonly title: string; readonly in: number },
  width: number,
): TopLevelSpec {
  const values = groups.flatMap(({ variant, records }) =>
    parts.map(({ name, value }, order) => ({
      variant,
      name,
      order,
      amount: median(records, value) / axis.in,
    })),
  );
  return {
    width: width - 100,
    height: { step: 30 },
    data: { values },
    mark: { type: "bar", height: 18 },
    encoding: {
      y: methodAxis,
      x: { field: "amount", aggregate: "sum", title: axis.title },
      color: { field: "name", type: "nominal", ...colorScale(parts) },
      order: { field: "order" },
    },
  };
}

function processor(groups: readonly Group[], where: string): Figure {
  const processes: readonly (LegendEntry & { readonly key: keyof Usage["cpu_ms"] })[] = [
    { name: "source VMM", color: first, key: "source_vmm" },
    { name: "destination VMM", color: third, key: "destination_vmm" },
    { name: "daemon", color: second, key: "daemon" },
  ];
  const parts = processes.map(
    ({ name, color, key }): Part => ({ name, color, value: ({ usage }) => usage.cpu_ms[key] }),
  );
  const sum: Value = (record) => parts.reduce((all, { value }) => all + value(record), 0);
  return {
    title: `Processor time: ${where}`,
    note: "CPU time of the host that both VMMs and the daemon took, from the command to its answer: all that ran in the VMs is in it. Medians.",
    plot: {
      legend: parts,
      reading: "",
      spec: (width) => stacked(groups, parts, { title: "CPU seconds", in: 1000 }, width),
    },
    table: {
      head: ["method", ...parts.map(({ name }) => name), "together"],
      rows: groups.map(({ variant, records }) => [
        variant,
        ...parts.map(({ value }) => formatTime(median(records, value))),
        formatSpread(spread(records.map(sum)), formatTime),
      ]),
    },
  };
}

/** Page contents that were moved, by way. What warp copies on the host is in `copied_pages`; for the others these went over the network. */
const ways: readonly Part[] = [
  { name: "network", color: second, value: ({ report }) => report.memory.network_bytes },
  { name: "agent channels", color: third, value: ({ report }) => report.memory.channel_bytes },
  {
    name: "copied on the host",
    color: first,
    value: ({ report }) => (report.method === "warp" ? report.memory.copied_pages * PAGE_BYTES : 0),
  },
];

function bandwidth(groups: readonly Group[], where: string): Figure {
  const moved: Value = (record) => ways.reduce((all, { value }) => all + value(record), 0);
  const rate: Value = (record) => (moved(record) * 1000) / record.report.time_ms.total;
  return {
    title: `Bytes moved: ${where}`,
    note: "Each byte that crossed the VMs' network or the agent channels, or was copied on the host, counted once, and their number over the total time. The true use of memory bandwidth is a multiple of it, as every copy reads and writes and a network copies more than once; hardware counters were not read.",
    plot: {
      legend: ways,
      reading: "",
      spec: (width) => stacked(groups, ways, { title: "MiB", in: MIB }, width),
    },
    table: {
      head: ["method", ...ways.map(({ name }) => name), "over the total time"],
      rows: groups.map(({ variant, records }) => [
        variant,
        ...ways.map(({ value }) => formatBytes(median(records, value))),
        formatSpread(spread(records.map(rate)), (bytes) => `${formatBytes(bytes)}/s`),
      ]),
    },
  };
}

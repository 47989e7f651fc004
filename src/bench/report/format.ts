/** Measured quantities with three digits, as figures of a report. */
import { formatBytes } from "../../cli/output/format.js";
import type { Bar } from "../bars.js";
import type { Estimate, Spread } from "../statistics.js";

const digits = (value: number): string => {
  if (value === 0) return "0";
  const size = Math.floor(Math.log10(Math.abs(value)));
  return value.toFixed(Math.min(4, Math.max(0, 2 - size)));
};

/** "0.412 ms", "41.2 ms", "4.12 s", "250 s". */
export const formatTime = (ms: number): string =>
  Math.abs(ms) < 999.5 ? `${digits(ms)} ms` : `${digits(ms / 1000)} s`;

/** The same down to single accesses to memory: "448 ns", "41.2 µs", "9.88 ms". */
export function formatShortTime(ms: number): string {
  if (Math.abs(ms) >= 0.9995) return formatTime(ms);
  return Math.abs(ms) >= 0.0009995 ? `${digits(ms * 1000)} µs` : `${digits(ms * 1e6)} ns`;
}

export const formatCount = (value: number): string =>
  Math.abs(value) < 1000 ? digits(value) : value.toLocaleString("en-US", { maximumFractionDigits: 0 });

export const formatPercent = (share: number): string => `${digits(share * 100)} %`;

/** Bytes that may be fewer than none: a difference. */
export const formatDifference = (bytes: number): string =>
  `${bytes < 0 ? "-" : "+"}${formatBytes(Math.abs(bytes))}`;

/** "4.12 s (3.98–4.31 s)": median and quartiles. */
export function formatSpread(spread: Spread | null, format: (value: number) => string): string {
  if (spread === null) return "";
  const { median, q1, q3, runs } = spread;
  return runs === 1 ? format(median) : `${format(median)} (${range(format(q1), format(q3), "–")})`;
}

/** "3.98 to 4.31 s": the unit once when both have the same. A dash would be taken for a sign, where one has a sign. */
function range(low: string, high: string, dash: "–" | "to"): string {
  const between = dash === "to" || /^[-+]/.test(low + high) ? " to " : dash;
  const unit = / \S+$/.exec(low)?.[0];
  const start = unit !== undefined && high.endsWith(unit) ? low.slice(0, -unit.length) : low;
  return `${start}${between}${high}`;
}

const formatOf = ({ unit }: Bar): ((value: number) => string) =>
  unit === "percent" ? formatPercent : (value) => value.toFixed(value < 0.1 ? 4 : 3);

export const formatValue = (bar: Bar, { value }: Estimate): string => formatOf(bar)(value);

/** "0.101 to 0.118"; empty when there are too few runs to tell. */
export function formatInterval(bar: Bar, { low, high }: Estimate): string {
  const format = formatOf(bar);
  return low === null || high === null ? "" : range(format(low), format(high), "to");
}

export const formatLimit = (bar: Bar): string => {
  const { kind, value } = bar.limit;
  if (bar.unit === "percent") return `${kind} ${Number((value * 100).toFixed(2))} %`;
  // Only what is one: 0.8 is no 1/1.
  const isFraction = value < 1 && Math.abs(1 / value - Math.round(1 / value)) < 1e-9;
  return `${kind} ${isFraction ? `1/${Math.round(1 / value)}` : value.toFixed(2)}`;
};

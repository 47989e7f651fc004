/** Colours and the look of all plots. Colours are CSS variables, so that one SVG serves light and dark pages. */
import type { Config } from "vega-lite";
import { type Phase, phases } from "../../protocol/migration.js";
import { type Variant, variants } from "../results.js";
import type { LegendEntry } from "./figure.js";

/** A colour on light and on dark ground. The hues are those of Okabe and Ito (2008), told apart by the colour-blind, too. */
type Shades = readonly [light: string, dark: string];

const methodShades: Readonly<Record<Variant, Shades>> = {
  warp: ["#0072b2", "#56b4e9"],
  "warp, eager": ["#4a6fa5", "#8fb4e8"],
  "warp, staged": ["#003f9e", "#7aa2ff"],
  "warp, remap": ["#004c78", "#a5d8f7"],
  "warp, copy": ["#a8578a", "#e09cc6"],
  cold: ["#c24f00", "#f08a4b"],
  precopy: ["#a87400", "#f0c04c"],
  postcopy: ["#007a5a", "#3cc9a0"],
};

export type PhasePart = Phase | "between";
export const phaseParts: readonly PhasePart[] = [...phases, "between"];

const phaseShades: Readonly<Record<PhasePart, Shades>> = {
  preflight: ["#b4bcc6", "#5a6470"],
  prepare: ["#8a95a3", "#7f8b99"],
  dump: ["#c24f00", "#f08a4b"],
  transfer: ["#d9a400", "#f0c04c"],
  restore: ["#007a5a", "#3cc9a0"],
  populate: ["#7fb800", "#b5dc5a"],
  warp: ["#0072b2", "#56b4e9"],
  resume: ["#a8578a", "#e09cc6"],
  retire: ["#5b4a8a", "#a897dd"],
  between: ["#dde1e6", "#39414b"],
};

export const ink = "var(--ink)";
const quiet = "var(--quiet)";
const rule = "var(--rule)";
/** Two lines or bars that are no methods: remap and copy, p50 and p99, source and destination. */
export const first = "var(--warp)";
export const second = "var(--cold)";
export const third = "var(--postcopy)";
export const still = "var(--still)";

const cssName = (name: string): string => name.replaceAll(/[^a-z]+/g, "-");
export const methodColor = (variant: Variant): string => `var(--${cssName(variant)})`;
export const phaseColor = (part: PhasePart): string => `var(--phase-${part})`;

/** Variables of one of the two grounds, for a style sheet. */
export function cssVariables(ground: "light" | "dark"): string {
  const index = ground === "light" ? 0 : 1;
  const lines = [
    ...Object.entries(methodShades).map(([name, shades]) => `--${cssName(name)}: ${shades[index]};`),
    ...Object.entries(phaseShades).map(([name, shades]) => `--phase-${name}: ${shades[index]};`),
  ];
  return lines.join("\n");
}

/** Those of `present` in their usual order. */
export const methodLegend = (present: Iterable<Variant>): LegendEntry[] => {
  const set = new Set(present);
  return variants.filter((variant) => set.has(variant)).map((name) => ({ name, color: methodColor(name) }));
};

/** A colour scale that leaves the legend to the page: its labels wrap there. */
export const colorScale = (
  legend: readonly LegendEntry[],
): { scale: { domain: string[]; range: string[] }; legend: null } => ({
  scale: { domain: legend.map(({ name }) => name), range: legend.map(({ color }) => color) },
  legend: null,
});

export const config: Config = {
  background: "transparent",
  // The table beside a plot says the same in words; marks would be read out one by one.
  aria: false,
  font: "system-ui, sans-serif",
  view: { stroke: null },
  axis: {
    labelColor: quiet,
    titleColor: quiet,
    domainColor: rule,
    tickColor: rule,
    gridColor: rule,
    labelFontSize: 11,
    titleFontSize: 11,
    titleFontWeight: "normal",
    titlePadding: 8,
    gridWidth: 0.6,
  },
  title: { color: ink, fontSize: 12, fontWeight: 600, anchor: "start", offset: 6 },
  header: { labelColor: ink, labelFontSize: 12, labelFontWeight: 600, title: null },
  text: { color: ink },
};

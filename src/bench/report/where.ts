/** Sentences about where the time goes. All of them come from the figures; what a phase consists of is ARCHITECTURE.md's. */
import type { Phase } from "../../protocol/migration.js";
import { GIB } from "../../units.js";
import {
  isIn,
  isQuiet,
  nameOfSetting,
  nameOfSize,
  type Results,
  type Setting,
  total,
  type Variant,
  variantOf,
} from "../results.js";
import { slope } from "../statistics.js";
import { type Breakdown, breakdowns, smallestBreakdowns } from "./breakdown.js";
import { formatTime } from "./format.js";
import { phaseParts } from "./theme.js";

/** Who works in a phase. */
const workers: Readonly<Record<Phase, string>> = {
  preflight: "agents and host look for reasons to refuse",
  prepare: "before the freeze: bundle and network, and the rounds of precopy",
  dump: "freeze, runc and CRIU on the source, and the pages of cold",
  transfer: "images and writable layer through the host",
  restore: "runc and CRIU on the destination",
  populate: "the destination's kernel faults pages in",
  warp: "rehearsal, then the stun: walk, validate, plan, exchange, commit",
  resume: "agents thaw the container and open its network",
  retire: "the source removes what is left, and the pages of postcopy arrive",
};

/** "dump: runc and CRIU on the source; ..." */
export const phaseGuide = (): string =>
  `${Object.entries(workers)
    .map(([phase, who]) => `${phase}: ${who}`)
    .join("; ")}.`;

export interface Account {
  readonly setting: string;
  readonly sentences: readonly string[];
}

export function accountOfTime(results: Results, setting: Setting): Account {
  const small = smallestBreakdowns(results, setting);
  const sentences = breakdowns(results, setting).map((large) => {
    const least = small.find(({ variant }) => variant === large.variant);
    return [
      `${large.variant}: ${formatTime(large.total)} for ${nameOfSize(large.size)}: ${longest(large)}.`,
      toolsShare(large),
      least === undefined || least.size === large.size ? "" : fixedShare(large, least),
      growth(results, setting, large.variant),
    ]
      .filter((sentence) => sentence !== "")
      .join(" ");
  });
  return { setting: nameOfSetting(setting), sentences };
}

const percent = (share: number): string => `${Math.round(share * 100)} %`;

/** The phases that take a twentieth of the total or more, longest first. */
const longest = ({ parts, total }: Breakdown): string =>
  phaseParts
    .filter((part) => part !== "between")
    .filter((part) => parts[part] >= total / 20)
    .sort((a, b) => parts[b] - parts[a])
    .map((part) => `${part} ${formatTime(parts[part])} (${percent(parts[part] / total)})`)
    .join(", ");

function toolsShare({ parts, total }: Breakdown): string {
  const tools = parts.dump + parts.restore;
  return `Dump and restore, which runc and CRIU do, are ${formatTime(tools)} (${percent(tools / total)}) of it.`;
}

/** What does not depend on the size is at most what the same phase takes at the smallest size. */
function fixedShare(large: Breakdown, small: Breakdown): string {
  const fixed = phaseParts.reduce(
    (sum, part) => sum + Math.max(0, Math.min(large.parts[part], small.parts[part])),
    0,
  );
  return `${formatTime(fixed)} (${percent(fixed / large.total)}) is what the same phases take for ${nameOfSize(small.size)}, too.`;
}

function growth({ migrations }: Results, setting: Setting, variant: Variant): string {
  const points = migrations
    .filter((record) => isQuiet(record) && isIn(record.cell, setting) && variantOf(record.cell) === variant)
    .map((record): [number, number] => [record.cell.size / GIB, total(record)]);
  const perGib = slope(points);
  return perGib === null
    ? ""
    : `Over all sizes the total grows by ${formatTime(perGib)} a GiB (least squares).`;
}

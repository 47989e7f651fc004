/** How long both VMs stand still, and what the container pays afterwards when it first touches its pages. */
import type { MigrationRecord } from "../../records.js";
import {
  isIn,
  isQuiet,
  nameOfSetting,
  nameOfSize,
  type Results,
  type Setting,
  settingsOf,
  stun,
  variantOf,
  variants,
} from "../../results.js";
import { spread } from "../../statistics.js";
import { sizeOfFigures } from "../breakdown.js";
import type { Figure } from "../figure.js";
import { formatSpread, formatTime } from "../format.js";
import { curves } from "./curves.js";
import { sizeAxis } from "./scales.js";

export function stunFigures({ migrations }: Results): Figure[] {
  const warps = migrations.filter((record) => isQuiet(record) && record.cell.method === "warp");
  return settingsOf(warps).flatMap((setting) => {
    const records = warps.filter(({ cell }) => isIn(cell, setting));
    const stuns = curves({
      title: `Stun: ${nameOfSetting(setting)}`,
      note: "Both VMs paused: walk, validate, plan, exchange or copy, commit. Medians, in brackets the quartiles.",
      records,
      x: ({ size }) => size,
      axis: sizeAxis,
      nameOfX: nameOfSize,
      head: "size",
      y: stun,
    });
    return [stuns, ...touches(records, setting)];
  });
}

/** Nothing when the pages were not touched after the moves. */
function touches(all: readonly MigrationRecord[], setting: Setting): Figure[] {
  const touched = all.filter(({ first_touch_ms }) => first_touch_ms !== null);
  const size = sizeOfFigures(touched);
  const records = touched.filter(({ cell }) => cell.size === size);
  if (records.length === 0) return [];
  const columns: readonly (readonly [head: string, value: (record: MigrationRecord) => number | null])[] = [
    ["stun", stun],
    ["first touch", ({ first_touch_ms }) => first_touch_ms],
    ["second touch", ({ second_touch_ms }) => second_touch_ms],
    ["stun and first touch", (record) => stun(record) + (record.first_touch_ms ?? 0)],
  ];
  const rows = variants.flatMap((variant) => {
    const here = records.filter(({ cell }) => variantOf(cell) === variant);
    const cells = columns.map(([, value]) =>
      formatSpread(spread(here.flatMap((record) => value(record) ?? [])), formatTime),
    );
    return here.length === 0 ? [] : [[variant, ...cells, String(here.length)]];
  });
  return [
    {
      title: `Stun and touch: ${nameOfSize(size)}, ${nameOfSetting(setting)}`,
      note: "A pass over every page as soon as the container answered, and the same once more, when nothing has to be mapped any longer.",
      plot: null,
      table: { head: ["method", ...columns.map(([head]) => head), "runs"], rows },
    },
  ];
}

/** How long both VMs stand still, and what the container pays afterwards when it first touches its pages. */
import { mean } from "simple-statistics";
import { stunParts } from "../../../protocol/migration.js";
import type { MigrationRecord } from "../../records.js";
import {
  isIn,
  isQuiet,
  nameOfSetting,
  nameOfSize,
  type Results,
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
import { seriesOfSizes } from "./sizes.js";

export function stunFigures({ migrations }: Results): Figure[] {
  const warps = migrations.filter((record) => isQuiet(record) && record.cell.method === "warp");
  const stuns = seriesOfSizes(warps).map(({ setting, records }) =>
    curves({
      title: `Stun: ${nameOfSetting(setting)}`,
      note: "Both VMs paused: walk, validate, plan, exchange or copy, commit. Medians, in brackets the quartiles.",
      records,
      x: ({ size }) => size,
      axis: sizeAxis,
      nameOfX: nameOfSize,
      head: "size",
      y: stun,
    }),
  );
  return [...stuns, ...partTables(warps), ...touches(warps)];
}

/** What the stun is for, by setting, at one size. Means, which add up; runs that do not say are left out. */
function partTables(warps: readonly MigrationRecord[]): Figure[] {
  const size = sizeOfFigures(warps);
  const records = warps.filter((record) => record.cell.size === size && sumOfParts(record) > 0);
  return settingsOf(records).map((setting) => {
    const columns = variants.flatMap((variant) => {
      const runs = records.filter(({ cell }) => isIn(cell, setting) && variantOf(cell) === variant);
      return runs.length === 0 ? [] : [{ variant, runs }];
    });
    const row = (name: string, value: Value): string[] => [
      name,
      ...columns.map(({ runs }) => formatTime(mean(runs.map((run) => value(run) ?? 0)))),
    ];
    return {
      title: `Parts of the stun: ${nameOfSize(size)}, ${nameOfSetting(setting)}`,
      note:
        "Means over the runs. pause and continue: QEMU stops both VMs and lets them go on; check: it is asked what has begun since preflight; " +
        "walk: page tables and struct pages are read and every page is classified; plan: what backs the RAM is read, and what is done with each extent is chosen; " +
        "exchange: frames are exchanged and copied; commit: the journal is on the disk.",
      plot: null,
      table: {
        head: ["part", ...columns.map(({ variant }) => variant)],
        rows: [
          ...stunParts.map((part) => row(part, ({ report }) => report.stun_ms.parts[part])),
          row("together", sumOfParts),
          ["runs", ...columns.map(({ runs }) => String(runs.length))],
        ],
      },
    };
  });
}

const sumOfParts = ({ report }: MigrationRecord): number =>
  stunParts.reduce((sum, part) => sum + report.stun_ms.parts[part], 0);

type Value = (record: MigrationRecord) => number | null;

const columns: readonly (readonly [head: string, value: Value])[] = [
  ["stun", stun],
  ["first touch", ({ first_touch_ms }) => first_touch_ms],
  ["second touch", ({ second_touch_ms }) => second_touch_ms],
  [
    "stun and first touch",
    (record) => (record.first_touch_ms === null ? null : stun(record) + record.first_touch_ms),
  ],
];

/** Every setting and back end side by side, at one size. */
function touches(warps: readonly MigrationRecord[]): Figure[] {
  const size = sizeOfFigures(warps);
  const records = warps.filter(({ cell }) => cell.size === size);
  const rows = settingsOf(records).flatMap((setting) =>
    variants.flatMap((variant) => {
      const here = records.filter(({ cell }) => isIn(cell, setting) && variantOf(cell) === variant);
      const cells = columns.map(([, value]) =>
        formatSpread(spread(here.flatMap((record) => value(record) ?? [])), formatTime),
      );
      return here.length === 0 ? [] : [[nameOfSetting(setting), variant, ...cells, String(here.length)]];
    }),
  );
  if (rows.length === 0) return [];
  return [
    {
      title: `Stun and touch: ${nameOfSize(size)}`,
      note: "Touch is a pass over every page as soon as the container answered, and the same once more, when nothing has to be mapped any longer. Medians, in brackets the quartiles.",
      plot: null,
      table: { head: ["setting", "method", ...columns.map(([head]) => head), "runs"], rows, words: [1] },
    },
  ];
}

/**
 * Bars on how downtime depends on the size of the container, and how it compares with stock post-copy's, which moves no page in it,
 * and with the floor: stock runc on a process of 1 MiB in one VM.
 */
import type { Strategy } from "../../protocol/migration.js";
import { GIB, MIB } from "../../units.js";
import type { Found } from "../bars.js";
import type { MigrationRecord } from "../records.js";
import {
  downtime,
  isIn,
  isQuiet,
  nameOfSetting,
  type Results,
  type Setting,
  seriesOf,
  settingsOf,
  total,
} from "../results.js";
import { medianRatio, type Series } from "../statistics.js";
import { judgedWarps, warpsBy } from "./warps.js";

export const SMALL = 16 * MIB;

interface Side {
  /** `warp`: by the strategy that a container's downtime is to be judged by. */
  readonly way: "warp" | Strategy | "postcopy";
  readonly size: number;
}

type Value = (record: MigrationRecord) => number;

function seriesIn(
  migrations: readonly MigrationRecord[],
  setting: Setting,
  { way, size }: Side,
  value: Value,
): Series {
  const here = migrations.filter(
    (record) => isQuiet(record) && isIn(record.cell, setting) && record.cell.size === size,
  );
  return seriesOf(runsOf(here, way), value);
}

function runsOf(runs: readonly MigrationRecord[], way: Side["way"]): MigrationRecord[] {
  if (way === "postcopy") return runs.filter(({ cell }) => cell.method === way);
  return way === "warp" ? judgedWarps(runs) : warpsBy(runs, way);
}

/** One over the other, in every setting in which both were measured. */
const ratioOf =
  (one: Side, other: Side, value: Value = downtime) =>
  ({ migrations }: Results): Found[] =>
    settingsOf(migrations).flatMap((setting) => {
      const [above, below] = [one, other].map((side) => seriesIn(migrations, setting, side, value));
      if (above === undefined || below === undefined || above.size === 0 || below.size === 0) return [];
      return [{ setting: nameOfSetting(setting), estimate: medianRatio(above, [below]), note: null }];
    });

export const largeAgainstSmall = (strategy: Strategy): ((results: Results) => Found[]) =>
  ratioOf({ way: strategy, size: GIB }, { way: strategy, size: SMALL });
export const againstPostcopy = (size: number): ((results: Results) => Found[]) =>
  ratioOf({ way: "warp", size }, { way: "postcopy", size });
export const stagedTotalAgainstEager = ratioOf(
  { way: "staged", size: GIB },
  { way: "eager", size: GIB },
  total,
);

/** Downtime of 1 GiB over how long stock runc keeps a small process from running, where both were measured. */
export function againstFloor({ migrations, floors }: Results): Found[] {
  return settingsOf(migrations).flatMap((setting) => {
    const warp = seriesIn(migrations, setting, { way: "warp", size: GIB }, downtime);
    const here = floors.filter(({ backing }) => backing === setting.backing);
    const floor = seriesOf(here, ({ frozen_ms }) => frozen_ms);
    if (warp.size === 0 || floor.size === 0) return [];
    return [{ setting: nameOfSetting(setting), estimate: medianRatio(warp, [floor]), note: null }];
  });
}

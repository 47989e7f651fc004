/**
 * Bars on how downtime depends on the size of the container, and how it compares with stock post-copy's, which moves no page in it,
 * and with the floor: stock runc on a process of 1 MiB in one VM.
 */
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
} from "../results.js";
import { medianRatio, type Series } from "../statistics.js";
import { judgedWarps } from "./warps.js";

export const SMALL = 16 * MIB;

interface Side {
  readonly method: "warp" | "postcopy";
  readonly size: number;
}

function downtimesOf(
  migrations: readonly MigrationRecord[],
  setting: Setting,
  { method, size }: Side,
): Series {
  const here = migrations.filter(
    (record) => isQuiet(record) && isIn(record.cell, setting) && record.cell.size === size,
  );
  const runs = method === "warp" ? judgedWarps(here) : here.filter(({ cell }) => cell.method === method);
  return seriesOf(runs, downtime);
}

/** Downtime of one over that of the other, in every setting in which both were measured. */
const ratioOf =
  (one: Side, other: Side) =>
  ({ migrations }: Results): Found[] =>
    settingsOf(migrations).flatMap((setting) => {
      const [above, below] = [one, other].map((side) => downtimesOf(migrations, setting, side));
      if (above.size === 0 || below.size === 0) return [];
      return [{ setting: nameOfSetting(setting), estimate: medianRatio(above, [below]), note: null }];
    });

export const largeAgainstSmall = ratioOf({ method: "warp", size: GIB }, { method: "warp", size: SMALL });
export const againstPostcopy = (size: number): ((results: Results) => Found[]) =>
  ratioOf({ method: "warp", size }, { method: "postcopy", size });

/** Downtime of 1 GiB over how long stock runc keeps a small process from running, where both were measured. */
export function againstFloor({ migrations, floors }: Results): Found[] {
  return settingsOf(migrations).flatMap((setting) => {
    const warp = downtimesOf(migrations, setting, { method: "warp", size: GIB });
    const here = floors.filter(({ backing }) => backing === setting.backing);
    const floor = seriesOf(here, ({ frozen_ms }) => frozen_ms);
    if (warp.size === 0 || floor.size === 0) return [];
    return [{ setting: nameOfSetting(setting), estimate: medianRatio(warp, [floor]), note: null }];
  });
}

/** Bars on how downtime depends on the size of the container, and how it compares with stock post-copy's, which moves no page in it. */
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
  type Variant,
  variantOf,
} from "../results.js";
import { medianRatio } from "../statistics.js";

export const SMALL = 16 * MIB;

interface Side {
  readonly variant: Variant;
  readonly size: number;
}

const runsOf = (
  migrations: readonly MigrationRecord[],
  setting: Setting,
  { variant, size }: Side,
): MigrationRecord[] =>
  migrations.filter(
    (record) =>
      isQuiet(record) &&
      isIn(record.cell, setting) &&
      record.cell.size === size &&
      variantOf(record.cell) === variant,
  );

/** Downtime of one over that of the other, in every setting in which both were measured. */
const ratioOf =
  (one: Side, other: Side) =>
  ({ migrations }: Results): Found[] =>
    settingsOf(migrations).flatMap((setting) => {
      const [above, below] = [one, other].map((side) =>
        seriesOf(runsOf(migrations, setting, side), downtime),
      );
      if (above.size === 0 || below.size === 0) return [];
      return [{ setting: nameOfSetting(setting), estimate: medianRatio(above, [below]), note: null }];
    });

export const largeAgainstSmall = ratioOf({ variant: "warp", size: GIB }, { variant: "warp", size: SMALL });
export const againstPostcopy = (size: number): ((results: Results) => Found[]) =>
  ratioOf({ variant: "warp", size }, { variant: "postcopy", size });

/** Bars on the stun: exchanging frames against copying the same memory, on hugetlb with guest THP. */

import { GIB } from "../../units.js";
import type { Found } from "../bars.js";
import type { MigrationRecord } from "../records.js";
import {
  isIn,
  isQuiet,
  nameOfSetting,
  type Results,
  type Setting,
  seriesOf,
  stun,
  variantOf,
} from "../results.js";
import { medianRatio, type Series } from "../statistics.js";

const setting: Setting = { backing: "hugetlb", pages: "thp" };

const stunAndTouch = (record: MigrationRecord): number | null =>
  record.first_touch_ms === null ? null : stun(record) + record.first_touch_ms;

export const stunAgainstCopy = (results: Results): Found[] => againstCopy(results, stun);
export const stunWithTouch = (results: Results): Found[] => againstCopy(results, stunAndTouch);

function againstCopy({ migrations }: Results, value: (record: MigrationRecord) => number | null): Found[] {
  const here = migrations.filter(
    (record) => record.cell.size === GIB && isQuiet(record) && isIn(record.cell, setting),
  );
  const seriesFor = (variant: "warp" | "warp, copy"): Series =>
    seriesOf(
      here.filter(({ cell }) => variantOf(cell) === variant),
      value,
    );
  const [warp, copy] = [seriesFor("warp"), seriesFor("warp, copy")];
  if (warp.size === 0 && copy.size === 0) return [];
  const missing = [...(warp.size === 0 ? ["auto"] : []), ...(copy.size === 0 ? ["copy"] : [])];
  return [
    {
      setting: nameOfSetting(setting),
      estimate: medianRatio(warp, [copy]),
      note: missing.length === 0 ? null : `no runs with --backend ${missing.join(", ")}`,
    },
  ];
}

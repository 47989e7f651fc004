/** Total time and downtime against the size of the container, by what memory is made of. */

import type { MigrationRecord } from "../../records.js";
import {
  downtime,
  isIn,
  isQuiet,
  nameOfSetting,
  nameOfSize,
  type Results,
  type Setting,
  settingsOf,
  total,
} from "../../results.js";
import type { Figure } from "../figure.js";
import { curves } from "./curves.js";
import { sizeAxis } from "./scales.js";

interface SizeSeries {
  readonly setting: Setting;
  readonly records: readonly MigrationRecord[];
}

/** Settings that were measured at more than one size; all of them when none was. */
export function seriesOfSizes(migrations: readonly MigrationRecord[]): SizeSeries[] {
  const all = settingsOf(migrations).map((setting) => ({
    setting,
    records: migrations.filter(({ cell }) => isIn(cell, setting)),
  }));
  const series = all.filter(({ records }) => new Set(records.map(({ cell }) => cell.size)).size > 1);
  return series.length > 0 ? series : all;
}

export function sizeFigures({ migrations }: Results): Figure[] {
  const quiet = migrations.filter(isQuiet);
  return seriesOfSizes(quiet).flatMap(({ setting, records }) => {
    const common = {
      records,
      x: ({ size }: { readonly size: number }) => size,
      axis: sizeAxis,
      nameOfX: nameOfSize,
      head: "size",
    };
    return [
      {
        ...common,
        title: `Total time: ${nameOfSetting(setting)}`,
        note: "From the command to the end of the last phase. Medians, in brackets the quartiles.",
        y: total,
      },
      {
        ...common,
        title: `Downtime: ${nameOfSetting(setting)}`,
        note: "From just before the freeze was asked for to just after the container was known to run again. Medians, in brackets the quartiles.",
        y: downtime,
      },
    ].map(curves);
  });
}

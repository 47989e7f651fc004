/** Bars on total time and downtime of a container of 1 GiB. */

import type { MigrationMethod } from "../../protocol/migration.js";
import type { Found } from "../bars.js";
import type { MigrationRecord } from "../records.js";
import {
  baselines,
  comparedSettings,
  downtime,
  GIB,
  isIn,
  isQuiet,
  nameOfSetting,
  type Results,
  type Setting,
  seriesOf,
  settingsOf,
  total,
  variantOf,
} from "../results.js";
import { medianRatio, type Series, spread } from "../statistics.js";

type Value = (record: MigrationRecord) => number;

export const totalAgainstCold = (results: Results): Found[] => against(results, total, ["cold"]);
export const againstBest = (results: Results): Found[] => against(results, total, baselines);
export const downtimeAgainstCold = (results: Results): Found[] => against(results, downtime, ["cold"]);

function against({ migrations }: Results, value: Value, others: readonly MigrationMethod[]): Found[] {
  const gib = migrations.filter((record) => record.cell.size === GIB && isQuiet(record));
  return comparedSettings(gib).map((setting) => {
    const seriesFor = (method: MigrationMethod): Series =>
      seriesOf(
        gib.filter(({ cell }) => isIn(cell, setting) && variantOf(cell) === method),
        value,
      );
    const missing = ["warp" as const, ...others].filter((method) => seriesFor(method).size === 0);
    return {
      setting: nameOfSetting(setting),
      estimate: medianRatio(seriesFor("warp"), others.map(seriesFor)),
      note: missing.length === 0 ? null : `no runs of ${missing.join(", ")}`,
    };
  });
}

/**
 * The smallest share of the container's pages that pre-copy had to send again: in any round after the first, or in the dump that
 * follows the last. Null when there was no round.
 */
export function dirtiedShare({ report }: MigrationRecord): number | null {
  if (report.rounds.length === 0 || report.memory.bytes === 0) return null;
  const sent = report.rounds.map(({ bytes }) => bytes);
  const last = report.memory.network_bytes - sent.reduce((sum, bytes) => sum + bytes, 0);
  return Math.min(...sent.slice(1), last) / report.memory.bytes;
}

/** Downtime against pre-copy while the container writes; only runs in which the writer was as heavy as the bar asks. */
export function againstWriter({ migrations }: Results): Found[] {
  const writers = migrations.filter(
    ({ cell }) => cell.size === GIB && cell.processes === 1 && cell.write_share > 0,
  );
  return settingsOf(writers).flatMap((setting) => {
    const shares = new Set(
      writers.filter(({ cell }) => isIn(cell, setting)).map(({ cell }) => cell.write_share),
    );
    const found = [...shares].sort((a, b) => a - b).map((share) => withWriter(writers, setting, share));
    const heavy = found.filter(({ estimate }) => estimate !== null);
    // Writers that are too light for the bar are named only where no other is there.
    return heavy.length > 0 ? heavy : found.slice(-1);
  });
}

function withWriter(writers: readonly MigrationRecord[], setting: Setting, share: number): Found {
  const here = writers.filter(({ cell }) => isIn(cell, setting) && cell.write_share === share);
  const warp = here.filter(({ cell }) => variantOf(cell) === "warp");
  const precopy = here.filter(({ cell }) => cell.method === "precopy");
  const heavy = precopy.filter((record) => (dirtiedShare(record) ?? 0) >= 0.5);
  const dirtied = spread(precopy.flatMap((record) => dirtiedShare(record) ?? []));
  const least =
    dirtied === null ? null : `least dirtied between iterations: ${Math.round(dirtied.median * 100)} %`;
  return {
    setting: `${nameOfSetting(setting)}, ${Math.round(share * 100)} % written a second`,
    estimate: medianRatio(seriesOf(warp, downtime), [seriesOf(heavy, downtime)]),
    note: least,
  };
}

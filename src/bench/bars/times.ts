/** Bars on total time and downtime of a container of 1 GiB. */

import type { MigrationMethod } from "../../protocol/migration.js";
import { GIB } from "../../units.js";
import type { Found } from "../bars.js";
import type { MigrationRecord } from "../records.js";
import {
  baselines,
  comparedSettings,
  downtime,
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
import { medianRatio, spread } from "../statistics.js";

/** Warp against other methods in one time; against several, the best of them counts. */
export interface Comparison {
  readonly name: "total" | "downtime";
  readonly value: (record: MigrationRecord) => number;
  readonly others: readonly MigrationMethod[];
}

export const totalAgainstCold: Comparison = { name: "total", value: total, others: ["cold"] };
export const totalAgainstBest: Comparison = { name: "total", value: total, others: baselines };
export const downtimeAgainstCold: Comparison = { name: "downtime", value: downtime, others: ["cold"] };

/** What a comparison is made of in one setting: the runs of warp, and those of the other methods that there are. */
export interface Compared {
  readonly setting: Setting;
  readonly warp: readonly MigrationRecord[];
  readonly others: ReadonlyMap<MigrationMethod, readonly MigrationRecord[]>;
}

export function comparedRuns({ migrations }: Results, { others }: Comparison): Compared[] {
  const gib = migrations.filter((record) => record.cell.size === GIB && isQuiet(record));
  return comparedSettings(gib).map((setting) => {
    const of = (method: MigrationMethod): MigrationRecord[] =>
      gib.filter(({ cell }) => isIn(cell, setting) && variantOf(cell) === method);
    return { setting, warp: of("warp"), others: new Map(others.map((method) => [method, of(method)])) };
  });
}

export const against =
  (comparison: Comparison) =>
  (results: Results): Found[] =>
    comparedRuns(results, comparison).map(({ setting, warp, others }) => {
      const runs = [["warp" as const, warp] as const, ...others];
      const missing = runs.filter(([, records]) => records.length === 0).map(([method]) => method);
      return {
        setting: nameOfSetting(setting),
        estimate: medianRatio(
          seriesOf(warp, comparison.value),
          [...others.values()].map((records) => seriesOf(records, comparison.value)),
        ),
        note: missing.length === 0 ? null : `no runs of ${missing.join(", ")}`,
      };
    });

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

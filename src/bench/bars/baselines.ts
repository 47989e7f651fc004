/** Whether the baselines are good ones: their rate of pages against what the network between the VMs can carry. */

import type { MigrationReport } from "../../protocol/migration.js";
import { GIB } from "../../units.js";
import type { Found } from "../bars.js";
import type { MigrationRecord, NetworkRecord } from "../records.js";
import { baselines, isIn, isQuiet, nameOfSetting, type Results, seriesOf, settingsOf } from "../results.js";
import { medianRatio, type Series, spread } from "../statistics.js";

type Baseline = (typeof baselines)[number];

/** Bytes per ms of the phase that carries the pages, stock tools' start and end included; null where nothing was carried. */
const rates: Readonly<Record<Baseline, (report: MigrationReport) => number | null>> = {
  cold: ({ memory, time_ms }) => perMs(memory.network_bytes, time_ms.phases.dump),
  precopy: ({ rounds }) =>
    perMs(
      rounds.reduce((sum, { bytes }) => sum + bytes, 0),
      rounds.reduce((sum, { time_ms }) => sum + time_ms, 0),
    ),
  postcopy: ({ memory, time_ms }) => perMs(memory.network_bytes, time_ms.phases.retire),
};

const perMs = (bytes: number, time: number): number | null => (bytes > 0 && time > 0 ? bytes / time : null);

export function baselineRates({ migrations, networks }: Results): Found[] {
  const gib = migrations.filter((record) => record.cell.size === GIB && isQuiet(record));
  return settingsOf(gib).flatMap((setting) =>
    baselines.flatMap((method) => {
      const here = gib.filter(({ cell }) => isIn(cell, setting) && cell.method === method);
      if (here.length === 0) return [];
      const pages = seriesOf(here, ({ report }) => rates[method](report));
      const raw = rawRates(
        networks.filter(({ backing }) => backing === setting.backing),
        here,
      );
      return [
        {
          setting: `${method}; ${nameOfSetting(setting)}`,
          estimate: medianRatio(pages, [raw]),
          note: noteOn(pages, raw),
        },
      ];
    }),
  );
}

/**
 * Raw TCP by round of the moves, in their direction where it was measured. A round without a measurement of its own takes the
 * median of all: the network is measured more rarely than the cells.
 */
function rawRates(networks: readonly NetworkRecord[], moves: readonly MigrationRecord[]): Series {
  const rate = ({ bytes, time_ms }: NetworkRecord): number => bytes / time_ms;
  return seriesOf(moves, ({ round, report: { from, to } }) => {
    const along = networks.filter((record) => record.from === from && record.to === to);
    const measured = along.length > 0 ? along : networks;
    const same = measured.filter((record) => record.round === round);
    return spread((same.length > 0 ? same : measured).map(rate))?.median ?? null;
  });
}

function noteOn(pages: Series, raw: Series): string {
  if (raw.size === 0) return "raw TCP was not measured";
  if (pages.size === 0) return "no page bytes or no time of the phase are in the reports";
  return `${mibPerSecond(pages)} of ${mibPerSecond(raw)}`;
}

const mibPerSecond = (series: Series): string =>
  `${(((spread(series.values())?.median ?? 0) * 1000) / 1024 ** 2).toFixed(0)} MiB/s`;

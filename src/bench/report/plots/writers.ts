/** Total time and downtime of a container that writes while it is moved. */

import { dirtiedShare } from "../../bars/times.js";
import type { MigrationRecord } from "../../records.js";
import { downtime, isIn, nameOfSetting, nameOfSize, type Results, settingsOf, total } from "../../results.js";
import { spread } from "../../statistics.js";
import type { Figure } from "../figure.js";
import { formatPercent } from "../format.js";
import { curves } from "./curves.js";
import { ascending } from "./scales.js";

const percentAxis = (values: readonly number[]) => ({
  type: "quantitative",
  axis: {
    values: [...values],
    format: ".0%",
    title: "share of the pages written anew each second",
    grid: false,
    labelOverlap: true,
  },
});

/** The size at which the most shares were measured; of several, the largest. */
function sizeOfWriters(records: readonly MigrationRecord[]): number {
  const shares = (size: number): number =>
    new Set(records.filter(({ cell }) => cell.size === size).map(({ cell }) => cell.write_share)).size;
  const sizes = ascending(records.map(({ cell }) => cell.size));
  return sizes.reduce((best, size) => (shares(size) >= shares(best) ? size : best));
}

export function writerFigures({ migrations }: Results): Figure[] {
  const writing = migrations.filter(({ cell }) => cell.processes === 1 && cell.write_share > 0);
  return settingsOf(writing).flatMap((setting) => {
    const size = sizeOfWriters(writing.filter(({ cell }) => isIn(cell, setting)));
    // A container that writes nothing is where the lines begin.
    const records = migrations.filter(
      ({ cell }) => isIn(cell, setting) && cell.processes === 1 && cell.size === size,
    );
    const heaviest = Math.max(...records.map(({ cell }) => cell.write_share));
    const again = spread(
      records.flatMap((record) => (record.cell.write_share === heaviest ? (dirtiedShare(record) ?? []) : [])),
    );
    const sent =
      again === null
        ? ""
        : ` Pre-copy of the heaviest writer sent at least ${formatPercent(again.median)} of the pages again in each of its iterations (median).`;
    const common = {
      records,
      x: ({ write_share }: { readonly write_share: number }) => write_share,
      axis: percentAxis,
      nameOfX: (share: number) => `${Math.round(share * 100)} %`,
      head: "written a second",
    };
    const where = `${nameOfSize(size)}, ${nameOfSetting(setting)}`;
    return [
      {
        ...common,
        title: `Downtime of a writer: ${where}`,
        note: `Medians and quartiles.${sent}`,
        y: downtime,
      },
      { ...common, title: `Total time of a writer: ${where}`, note: "Medians and quartiles.", y: total },
    ].map(curves);
  });
}

/** Total time and downtime of a container that writes while it is moved. */
import { dirtiedShare } from "../../bars/times.js";
import { downtime, isIn, nameOfSetting, nameOfSize, type Results, settingsOf, total } from "../../results.js";
import { spread } from "../../statistics.js";
import { sizeOfFigures } from "../breakdown.js";
import type { Figure } from "../figure.js";
import { formatPercent } from "../format.js";
import { curves } from "./curves.js";

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

export function writerFigures({ migrations }: Results): Figure[] {
  const writing = migrations.filter(({ cell }) => cell.processes === 1 && cell.write_share > 0);
  return settingsOf(writing).flatMap((setting) => {
    const size = sizeOfFigures(writing.filter(({ cell }) => isIn(cell, setting)));
    // A container that writes nothing is where the lines begin.
    const records = migrations.filter(
      ({ cell }) => isIn(cell, setting) && cell.processes === 1 && cell.size === size,
    );
    const again = spread(
      records.flatMap((record) => (record.cell.write_share > 0 ? (dirtiedShare(record) ?? []) : [])),
    );
    const sent =
      again === null
        ? ""
        : ` Pre-copy sent at least ${formatPercent(again.median)} of the pages again in each of its iterations (median of the runs with a writer).`;
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

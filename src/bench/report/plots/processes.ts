/** Total time and downtime against the number of processes that share the container's memory among them. */
import { downtime, isIn, nameOfSetting, nameOfSize, type Results, settingsOf, total } from "../../results.js";
import { sizeOfFigures } from "../breakdown.js";
import type { Figure } from "../figure.js";
import { curves } from "./curves.js";

const processAxis = (values: readonly number[]) => ({
  type: "quantitative",
  scale: { type: "log", base: 2 },
  axis: { values: [...values], title: "processes", grid: false, labelOverlap: true },
});

export function processFigures({ migrations }: Results): Figure[] {
  const quiet = migrations.filter(({ cell }) => cell.write_share === 0);
  const many = quiet.filter(({ cell }) => cell.processes > 1);
  return settingsOf(many).flatMap((setting) => {
    const size = sizeOfFigures(many.filter(({ cell }) => isIn(cell, setting)));
    const common = {
      records: quiet.filter(({ cell }) => isIn(cell, setting) && cell.size === size),
      x: ({ processes }: { readonly processes: number }) => processes,
      axis: processAxis,
      nameOfX: String,
      head: "processes",
      note: "The same memory, divided among more processes. Medians and quartiles.",
    };
    const where = `${nameOfSize(size)} together, ${nameOfSetting(setting)}`;
    return [
      { ...common, title: `Total time: ${where}`, y: total },
      { ...common, title: `Downtime: ${where}`, y: downtime },
    ].map(curves);
  });
}

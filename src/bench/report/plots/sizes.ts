/** Total time and downtime against the size of the container, by what memory is made of. */
import {
  downtime,
  isIn,
  isQuiet,
  nameOfSetting,
  nameOfSize,
  type Results,
  settingsOf,
  total,
} from "../../results.js";
import type { Figure } from "../figure.js";
import { curves } from "./curves.js";
import { sizeAxis } from "./scales.js";

export function sizeFigures({ migrations }: Results): Figure[] {
  const quiet = migrations.filter(isQuiet);
  return settingsOf(quiet).flatMap((setting) => {
    const records = quiet.filter(({ cell }) => isIn(cell, setting));
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

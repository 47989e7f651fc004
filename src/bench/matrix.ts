/** The cells of the matrix. A suite names slices of it; the whole product would take days and answer nothing more. */

import { formatBytes } from "../cli/output/format.js";
import { MwarpError } from "../errors.js";
import type { BackendChoice, MigrationMethod, StrategyChoice } from "../protocol/migration.js";
import { MIB } from "../units.js";
import type { Backing, Cell, PageKind } from "./records.js";

/** Values of each axis: a slice of the matrix is their product. */
export interface Axes {
  readonly size: readonly number[];
  readonly pages: readonly PageKind[];
  readonly backing: readonly Backing[];
  readonly writeShare: readonly number[];
  readonly processes: readonly number[];
  readonly method: readonly MigrationMethod[];
  /** Of method warp; the others exchange nothing. */
  readonly backend: readonly BackendChoice[];
  /** Of method warp, too. */
  readonly strategy: readonly StrategyChoice[];
}

/** All cells of some slices, each once, in the order in which the slices name them. */
export function cellsOf(slices: readonly Axes[]): Cell[] {
  const cells = slices.flatMap(product);
  return [...new Map(cells.map((cell) => [cellKey(cell), cell])).values()];
}

function product(axes: Axes): Cell[] {
  return axes.backing.flatMap((backing) =>
    axes.size.flatMap((size) =>
      axes.pages.flatMap((pages) =>
        axes.processes.flatMap((processes) =>
          axes.writeShare.flatMap((write_share) =>
            axes.method.flatMap((method) =>
              waysOf(method, axes).map(
                (way): Cell => ({ backing, pages, size, processes, write_share, method, ...way }),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

/** A method that exchanges nothing has one only. */
const waysOf = (method: MigrationMethod, axes: Axes): Pick<Cell, "backend" | "strategy">[] =>
  method === "warp"
    ? axes.backend.flatMap((backend) => axes.strategy.map((strategy) => ({ backend, strategy })))
    : [{ backend: "auto", strategy: "auto" }];

/** Equal for equal cells. */
export const cellKey = (cell: Cell): string =>
  `${containerKey(cell)} ${cell.method} ${cell.backend} ${cell.strategy}`;

/** Equal for cells whose container is the same: it can be moved by one method after the other. */
export const containerKey = ({ backing, pages, size, processes, write_share }: Cell): string =>
  `${backing} ${pages} ${size} ${processes} ${write_share}`;

/** A cell for people: "warp (copy), 64 MiB thp on hugetlb, 4 processes, 50 % written a second". */
export function nameOfCell(cell: Cell): string {
  const told = [cell.backend, cell.strategy].filter((choice) => choice !== "auto");
  const ways = told.length > 0 ? ` (${told.join(", ")})` : "";
  return [
    `${cell.method}${ways}`,
    `${formatBytes(cell.size).replace(".0 ", " ")} ${cell.pages} on ${cell.backing}`,
    ...(cell.processes > 1 ? [`${cell.processes} processes`] : []),
    ...(cell.write_share > 0 ? [`${Math.round(cell.write_share * 100)} % written a second`] : []),
  ].join(", ");
}

const limits = { size: [MIB, 1024 ** 4], processes: [1, 256], writeShare: [0, 1000] } as const;

/** @throws MWARP_E_USAGE naming the value that no container can have */
export function checkAxes(axes: Partial<Axes>): void {
  for (const name of ["size", "processes", "writeShare"] as const) {
    const [low, high] = limits[name];
    const wrong = axes[name]?.find((value) => !(value >= low && value <= high));
    if (wrong !== undefined)
      throw new MwarpError("MWARP_E_USAGE", `${name} ${wrong}: from ${low} to ${high} can be measured`);
  }
}

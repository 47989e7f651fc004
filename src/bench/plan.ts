/** From a suite and the options of the command line to what is to be measured, and the order in which. */
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { MwarpError } from "../errors.js";
import { type Axes, cellKey, cellsOf, checkAxes, containerKey, nameOfCell } from "./matrix.js";
import { type Backing, type BenchRecord, backings, type Cell, type Plan } from "./records.js";
import { type Suite, suites } from "./suites.js";

/** Axes that are given take the place of the suite's own. */
export interface PlanOptions extends Partial<Axes> {
  readonly rounds?: number;
}

/** @throws MWARP_E_USAGE for a value out of range, or a suite that there is not */
export function makePlan(name: string, { rounds, ...axes }: PlanOptions): Plan {
  checkAxes(axes);
  const suite = Object.entries<Suite>(suites).find(([known]) => known === name)?.[1];
  if (suite === undefined) throw new MwarpError("MWARP_E_USAGE", `there is no suite ${name}`);
  const slices = suite.slices.map((slice) => ({ ...slice, ...axes }));
  return { suite: name, rounds: rounds ?? suite.rounds, cells: cellsOf(slices) };
}

/** One thing to measure. */
export type Task =
  | { readonly kind: "network"; readonly backing: Backing; readonly round: number }
  | { readonly kind: "migration"; readonly cell: Cell; readonly round: number };

/** Equal for a task and the records of it. */
export function taskKey(task: Task): string {
  const what = task.kind === "migration" ? cellKey(task.cell) : task.backing;
  return `${task.kind} ${task.round} ${what}`;
}

/** For people, as in the progress line and in the record of a failure. */
export const nameOfTask = (task: Task): string =>
  task.kind === "migration" ? nameOfCell(task.cell) : `raw TCP between the VMs, ${task.backing}`;

/** Tasks that need a lab of their own, because of what backs its VMs. */
export interface Group {
  readonly backing: Backing;
  readonly tasks: readonly Task[];
}

/**
 * The whole order of a run, which its seed determines. Within a backing it goes round by round; in a round every cell comes once,
 * in an order of its own, so that what drifts with time falls on all alike. Cells of one container stay together: it is moved by one
 * method after the other.
 */
export function schedule({ cells, rounds }: Plan, seed: number): Group[] {
  const generator = xoroshiro128plus(seed);
  const shuffled = <T>(items: Iterable<T>): T[] => {
    const list = [...items];
    for (let last = list.length - 1; last > 0; last--) {
      const other = uniformInt(generator, 0, last);
      [list[last], list[other]] = [list[other], list[last]];
    }
    return list;
  };
  return backings
    .map((backing) => ({ backing, cells: cells.filter((cell) => cell.backing === backing) }))
    .filter((group) => group.cells.length > 0)
    .map(({ backing, cells: own }) => {
      const containers = [...new Set(own.map(containerKey))].map((key) =>
        own.filter((cell) => containerKey(cell) === key),
      );
      const tasks = Array.from({ length: rounds }, (_, round): Task[] => [
        { kind: "network", backing, round },
        ...shuffled(containers)
          .flatMap(shuffled)
          .map((cell): Task => ({ kind: "migration", cell, round })),
      ]);
      return { backing, tasks: tasks.flat() };
    });
}

/** The tasks that a file's records answer. A failure answers none: what failed is tried again. */
export function doneTasks(records: readonly BenchRecord[]): Set<string> {
  return new Set(
    records.flatMap((record) =>
      record.kind === "migration" || record.kind === "network" ? [taskKey(record)] : [],
    ),
  );
}

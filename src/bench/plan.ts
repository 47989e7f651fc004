/** From a suite and the options of the command line to what is to be measured, and the order in which. */
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { MwarpError } from "../errors.js";
import { HUGE_BYTES, PAGE_BYTES } from "../units.js";
import { type Axes, cellKey, cellsOf, checkAxes, containerKey, nameOfCell } from "./matrix.js";
import {
  type ApplicationCell,
  type Backing,
  type BenchRecord,
  backings,
  type Cell,
  type Plan,
} from "./records.js";
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
  return {
    suite: name,
    rounds: rounds ?? suite.rounds,
    cells: cellsOf(suite.slices.map((slice) => ({ ...slice, ...axes }))),
    applications: suite.applications.flatMap(({ application, backing, method }) =>
      (axes.backing ?? backing).flatMap((one) =>
        (axes.method ?? method).map((by): ApplicationCell => ({ application, backing: one, method: by })),
      ),
    ),
    planner_rounds: suite.plannerRounds === 0 ? 0 : (rounds ?? suite.plannerRounds),
    ...(suite.stalls.length > 0 ? { stalls: cellsOf(suite.stalls.map((one) => ({ ...one, ...axes }))) } : {}),
    ...(suite.floor ? { floor: true } : {}),
  };
}

/** One thing to measure. */
export type Task =
  | { readonly kind: "network" | "floor"; readonly backing: Backing; readonly round: number }
  | { readonly kind: "migration" | "stalls"; readonly cell: Cell; readonly round: number }
  | ({ readonly kind: "application"; readonly round: number } & ApplicationCell)
  | { readonly kind: "planner" | "crossover"; readonly host_page_bytes: number; readonly round: number };

/** Equal for a task and the records of it. */
export const taskKey = (task: Task): string => `${task.kind} ${task.round} ${whatOf(task)}`;

function whatOf(task: Task): string {
  switch (task.kind) {
    case "network":
    case "floor":
      return task.backing;
    case "migration":
    case "stalls":
      return cellKey(task.cell);
    case "application":
      return `${task.application} ${task.backing} ${task.method}`;
    case "planner":
    case "crossover":
      return String(task.host_page_bytes);
  }
}

/** For people, as in the progress line and in the record of a failure. */
export function nameOfTask(task: Task): string {
  switch (task.kind) {
    case "network":
      return `raw TCP between the VMs, ${task.backing}`;
    case "floor":
      return `stock runc in one VM, ${task.backing}`;
    case "migration":
      return nameOfCell(task.cell);
    case "stalls":
      return `page stalls of ${nameOfCell(task.cell)}`;
    case "application":
      return `${task.application}, ${task.method} on ${task.backing}`;
    case "planner":
      return `plans against times, host pages of ${pagesOf(task.host_page_bytes)}`;
    case "crossover":
      return `remap against copy, host pages of ${pagesOf(task.host_page_bytes)}`;
  }
}

const pagesOf = (bytes: number): string => (bytes === HUGE_BYTES ? "2 MiB" : "4 KiB");

/** Tasks that need a lab of their own, because of what backs its VMs; null: they need none. */
export interface Group {
  readonly backing: Backing | null;
  readonly tasks: readonly Task[];
}

type Shuffle = <T>(items: Iterable<T>) => T[];

function shuffler(seed: number): Shuffle {
  const generator = xoroshiro128plus(seed);
  return (items) => {
    const list = [...items];
    for (let last = list.length - 1; last > 0; last--) {
      const other = uniformInt(generator, 0, last);
      [list[last], list[other]] = [list[other], list[last]];
    }
    return list;
  };
}

/**
 * The whole order of a run, which its seed determines. Within a backing it goes round by round; in a round everything comes once, in
 * an order of its own, so that what drifts with time falls on all alike. What has one container stays together: it is moved by
 * one method after the other.
 */
export function schedule(plan: Plan, seed: number): Group[] {
  const shuffled = shuffler(seed);
  const labs = backings.map((backing): Group => ({ backing, tasks: labTasks(plan, backing, shuffled) }));
  return [...labs, { backing: null, tasks: hostTasks(plan.planner_rounds) }].filter(
    ({ tasks }) => tasks.length > 0,
  );
}

function labTasks(
  { cells, applications, rounds, stalls = [], floor = false }: Plan,
  backing: Backing,
  shuffled: Shuffle,
): Task[] {
  const containers = grouped(
    cells.filter((cell) => cell.backing === backing),
    containerKey,
  );
  const programs = grouped(
    applications.filter((one) => one.backing === backing),
    ({ application }) => application,
  );
  const busy = grouped(
    stalls.filter((cell) => cell.backing === backing),
    containerKey,
  );
  if (containers.length + busy.length + programs.length === 0) return [];
  return Array.from({ length: rounds }, (_, round): Task[] => [
    { kind: "network", backing, round },
    ...(floor ? [{ kind: "floor", backing, round } as const] : []),
    ...shuffled(containers)
      .flatMap(shuffled<Cell>)
      .map((cell): Task => ({ kind: "migration", cell, round })),
    ...shuffled(busy)
      .flatMap(shuffled<Cell>)
      .map((cell): Task => ({ kind: "stalls", cell, round })),
    ...shuffled(programs)
      .flatMap(shuffled<ApplicationCell>)
      .map((cell): Task => ({ kind: "application", ...cell, round })),
  ]).flat();
}

const hostTasks = (rounds: number): Task[] =>
  Array.from({ length: rounds }, (_, round) =>
    [PAGE_BYTES, HUGE_BYTES].flatMap((host_page_bytes): Task[] => [
      { kind: "planner", host_page_bytes, round },
      { kind: "crossover", host_page_bytes, round },
    ]),
  ).flat();

/** Items with the same key side by side, in the order in which the keys come. */
function grouped<T>(items: readonly T[], keyOf: (item: T) => string): T[][] {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return [...groups.values()];
}

/** The tasks that a file's records answer. A failure answers none: what failed is tried again. */
export const doneTasks = (records: readonly BenchRecord[]): Set<string> =>
  new Set(
    records.flatMap((record) =>
      record.kind === "run" || record.kind === "failure" ? [] : [taskKey(record)],
    ),
  );

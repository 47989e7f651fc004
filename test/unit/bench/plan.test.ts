import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cellKey, containerKey, nameOfCell } from "../../../src/bench/matrix.js";
import { fits, guestMemory } from "../../../src/bench/memory.js";
import { doneTasks, makePlan, schedule, type Task, taskKey } from "../../../src/bench/plan.js";
import type { Cell } from "../../../src/bench/records.js";
import { suiteNames, suites } from "../../../src/bench/suites.js";
import { stall } from "./fixtures.js";
import { application, crossover, failure, migration, network } from "./records.js";

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const orderOf = (tasks: readonly Task[]): string[] => tasks.map(taskKey);

describe("a plan", () => {
  it.each(suiteNames)("of suite %s has something to measure, and everything once", (name) => {
    const plan = makePlan(name, {});
    const keys = schedule(plan, 1).flatMap(({ tasks }) => orderOf(tasks));
    expect(new Set(keys).size).toBe(keys.length);
    expect(keys.length).toBeGreaterThan(0);
    expect(plan.rounds).toBe(suites[name].rounds);
  });

  it("has ten rounds at least where intervals are asked for", () => {
    for (const name of suiteNames)
      if (name !== "quick") expect(suites[name].rounds).toBeGreaterThanOrEqual(10);
  });

  it("of the full suite holds the cells of every other but quick", () => {
    const full = new Set(makePlan("full", {}).cells.map(cellKey));
    for (const name of suiteNames)
      if (name !== "quick")
        for (const cell of makePlan(name, {}).cells) expect(full).toContain(cellKey(cell));
    const { applications, planner_rounds } = makePlan("full", {});
    expect(applications).toEqual(makePlan("applications", {}).applications);
    expect(planner_rounds).toBe(makePlan("planner", {}).planner_rounds);
  });

  it("has the floor of a downtime once in each round of a suite that asks for it, before the cells", () => {
    const [{ tasks }] = schedule(makePlan("downtime", { rounds: 2, size: [16 * MIB] }), 1);
    expect(tasks.map(({ kind, round }) => `${kind} ${round}`)).toEqual([
      ...["network 0", "floor 0", "migration 0", "migration 0", "migration 0"],
      ...["network 1", "floor 1", "migration 1", "migration 1", "migration 1"],
    ]);
    const kinds = schedule(makePlan("compare", {}), 1).flatMap((group) =>
      group.tasks.map(({ kind }) => kind),
    );
    expect(kinds).not.toContain("floor");
  });

  it("has moves of busy containers as tasks of their own, under the axes of the command line", () => {
    const plan = makePlan("stalls", { size: [64 * MIB], rounds: 1 });
    expect([plan.cells, plan.stalls?.map(({ method, size }) => [method, size])]).toEqual([
      [],
      [
        ["warp", 64 * MIB],
        ["postcopy", 64 * MIB],
      ],
    ]);
    const [{ tasks }] = schedule(plan, 1);
    expect(tasks.map(({ kind }) => kind)).toEqual(["network", "stalls", "stalls"]);
    const [cell] = makePlan("stalls", {}).stalls!;
    expect(taskKey({ kind: "stalls", cell, round: 0 })).not.toBe(
      taskKey({ kind: "migration", cell, round: 0 }),
    );
    expect(doneTasks([stall({ cell, round: 2 })])).toEqual(
      new Set([taskKey({ kind: "stalls", cell, round: 2 })]),
    );
    expect(makePlan("full", {}).stalls).toEqual(makePlan("stalls", {}).stalls);
  });

  it("compares the four methods at 1 GiB, idle and with a writer that dirties half the pages in half a second", () => {
    const { cells } = makePlan("compare", {});
    expect(cells).toHaveLength(8);
    expect(new Set(cells.map(({ method }) => method))).toEqual(
      new Set(["warp", "cold", "precopy", "postcopy"]),
    );
    expect(Math.max(...cells.map(({ write_share }) => write_share))).toBeGreaterThanOrEqual(1);
    expect(cells.every(({ size }) => size === GIB)).toBe(true);
  });

  it("has back ends for warp only", () => {
    const { cells } = makePlan("compare", { backend: ["auto", "remap", "copy"], writeShare: [0] });
    expect(cells.map(({ method, backend }) => `${method} ${backend}`)).toEqual([
      "warp auto",
      "warp remap",
      "warp copy",
      "cold auto",
      "precopy auto",
      "postcopy auto",
    ]);
  });

  it("takes the axes of the command line in the place of the suite's", () => {
    const plan = makePlan("full", {
      size: [64 * MIB],
      pages: ["scattered"],
      backing: ["4k"],
      writeShare: [0.5],
      processes: [4],
      method: ["cold"],
      rounds: 3,
    });
    const cell: Cell = {
      backing: "4k",
      pages: "scattered",
      size: 64 * MIB,
      processes: 4,
      write_share: 0.5,
      method: "cold",
      backend: "auto",
      strategy: "auto",
    };
    expect(plan).toEqual({
      suite: "full",
      rounds: 3,
      cells: [cell],
      applications: ["redis", "postgres", "memory"].map((application) => ({
        application,
        backing: "4k",
        method: "cold",
      })),
      planner_rounds: 3,
      stalls: [cell],
      floor: true,
    });
  });

  it.each([{ size: [4096] }, { processes: [0] }, { processes: [1000] }, { writeShare: [-1] }])(
    "refuses %j",
    (options) => {
      expect(() => makePlan("quick", options)).toThrow(/can be measured/);
    },
  );

  it("names a cell by what makes it special", () => {
    const { cells } = makePlan("quick", {});
    expect(nameOfCell(cells[0]!)).toBe("warp, 64 MiB thp on hugetlb");
    expect(
      nameOfCell({ ...cells[0]!, backend: "copy", processes: 4, write_share: 0.5, pages: "scattered" }),
    ).toBe("warp (copy), 64 MiB scattered on hugetlb, 4 processes, 50 % written a second");
  });
});

describe("the order of a run", () => {
  const seeds = fc.integer({ min: 0, max: 2 ** 31 - 1 });

  it("has every cell once in every round, whatever the seed", () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const plan = makePlan("pages", { rounds: 3 });
        const groups = schedule(plan, seed);
        expect(groups.map(({ backing }) => backing)).toEqual(["4k", "thp", "hugetlb"]);
        for (const { backing, tasks } of groups) {
          for (const round of [0, 1, 2]) {
            const cells = tasks.flatMap((task) =>
              task.kind === "migration" && task.round === round ? [cellKey(task.cell)] : [],
            );
            const wanted = plan.cells.filter((cell) => cell.backing === backing).map(cellKey);
            expect(cells.toSorted()).toEqual(wanted.toSorted());
          }
        }
      }),
      { numRuns: 30 },
    );
  });

  it("goes round by round, the network first, with the cells of one container side by side", () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const [group] = schedule(makePlan("writes", { rounds: 4 }), seed);
        const rounds = group!.tasks.map(({ round }) => round);
        expect(rounds).toEqual(rounds.toSorted((a, b) => a - b));
        for (const round of [0, 1, 2, 3]) {
          const [first, ...others] = group!.tasks.filter((task) => task.round === round);
          expect(first).toMatchObject({ kind: "network" });
          const keys = others.map((task) => (task.kind === "migration" ? containerKey(task.cell) : ""));
          const changes = keys.filter((key, index) => key !== keys[index - 1]);
          expect(changes).toHaveLength(new Set(keys).size);
        }
      }),
      { numRuns: 30 },
    );
  });

  it("moves an application by all methods before the next one comes, and measures the host without a lab at the end", () => {
    const plan = makePlan("full", { rounds: 2 });
    const groups = schedule(plan, 5);
    expect(groups.map(({ backing }) => backing)).toEqual(["4k", "thp", "hugetlb", null]);
    const names = groups.flatMap(({ tasks }) =>
      tasks.flatMap((task) => (task.kind === "application" ? [`${task.round} ${task.application}`] : [])),
    );
    expect(names).toHaveLength(2 * 3 * 4);
    expect(names.filter((name, index) => name !== names[index - 1])).toHaveLength(2 * 3);
    expect(orderOf(groups[3]!.tasks)).toEqual(
      [0, 1].flatMap((round) =>
        [4096, 2 * MIB].flatMap((bytes) => [`planner ${round} ${bytes}`, `crossover ${round} ${bytes}`]),
      ),
    );
  });

  it("follows from the seed, and differs from round to round", () => {
    const plan = makePlan("compare", {});
    const order = (seed: number): string[] => schedule(plan, seed).flatMap(({ tasks }) => orderOf(tasks));
    expect(order(7)).toEqual(order(7));
    expect(order(7)).not.toEqual(order(8));
    const rounds = Array.from({ length: 10 }, (_, round) =>
      order(7)
        .filter((key) => key.startsWith(`migration ${round} `))
        .map((key) => key.replace(/^\w+ \d+ /, ""))
        .join(),
    );
    expect(new Set(rounds).size).toBeGreaterThan(5);
  });
});

describe("what is done", () => {
  it("is a measurement that has a record; a failure is tried again", () => {
    const plan = makePlan("quick", {});
    const tasks = schedule(plan, 1).flatMap((group) => group.tasks);
    const [cell] = plan.cells;
    const done = doneTasks([network("hugetlb", 0), migration(cell!, 1), failure("warp"), crossover(4096, 1)]);
    const left = tasks.filter((task) => !done.has(taskKey(task)));
    expect(left).toHaveLength(tasks.length - 3);
    expect(orderOf(left)).not.toContain(taskKey({ kind: "migration", cell: cell!, round: 1 }));
    expect(orderOf(left)).toContain(taskKey({ kind: "migration", cell: cell!, round: 0 }));
  });

  it("counts a move of an application, and no other of it", () => {
    const plan = makePlan("applications", { rounds: 1, method: ["warp", "cold"] });
    const [first] = plan.applications;
    const tasks = schedule(plan, 1).flatMap((group) => group.tasks);
    const done = doneTasks([application(first!, 0)]);
    expect(tasks.filter((task) => done.has(taskKey(task)))).toEqual([
      { kind: "application", ...first, round: 0 },
    ]);
  });
});

describe("the memory of the VMs", () => {
  const { cells } = makePlan("sizes", {});

  it("holds the largest cell for which the host has enough", () => {
    const memory = guestMemory(cells, 64 * GIB);
    expect(cells.every((cell) => fits(cell, memory))).toBe(true);
    expect(memory % (2 * MIB)).toBe(0);
    const small = guestMemory(cells, 20 * GIB);
    const left = cells.filter((cell) => !fits(cell, small));
    expect(left.every(({ size }) => size === 4 * GIB)).toBe(true);
    expect(left.length).toBeGreaterThan(0);
    expect(2 * small + 2 * GIB).toBeLessThanOrEqual(20 * GIB);
  });

  it("is refused on a host that has not enough for the smallest", () => {
    expect(() => guestMemory(cells, 2 * GIB)).toThrow(/smallest container needs/);
  });
});

import { describe, expect, it } from "vitest";
import { makePlan, schedule, type Task, taskKey } from "../../../src/bench/plan.js";
import type { BenchRecord } from "../../../src/bench/records.js";
import { type Bench, runTasks } from "../../../src/bench/task-loop.js";
import { MwarpError } from "../../../src/errors.js";
import { crossover, migration, network } from "./records.js";

const tasks = schedule(makePlan("quick", {}), 1).flatMap((group) => group.tasks);
function good(task: Task): BenchRecord {
  switch (task.kind) {
    case "network":
      return network(task.backing, task.round);
    case "migration":
      return migration(task.cell, task.round);
    case "planner":
    case "crossover":
      return crossover(task.host_page_bytes, task.round);
    case "application":
    case "floor":
    case "stalls":
      throw new Error(`quick measures no ${task.kind}`);
  }
}

/** Measures as a test says; counts what it was asked for. */
class Script implements Bench {
  readonly measured: string[] = [];
  recoveries = 0;
  sound = true;

  constructor(readonly say: (index: number, task: Task) => BenchRecord) {}

  async measure(task: Task): Promise<[BenchRecord]> {
    this.measured.push(taskKey(task));
    return [this.say(this.measured.length - 1, task)];
  }

  async recover(): Promise<boolean> {
    this.recoveries++;
    return this.sound;
  }
}

async function run(bench: Bench, signal = new AbortController().signal) {
  const records: BenchRecord[] = [];
  const told: string[] = [];
  const progress = {
    start: (task: Task) => void told.push(`start ${taskKey(task)}`),
    measured: () => void told.push("measured"),
    failed: (_what: string, message: string) => void told.push(`failed: ${message}`),
  };
  const left = await runTasks(tasks, bench, { append: (...more) => records.push(...more), progress, signal });
  return { records, told, left };
}

describe("the tasks of a lab", () => {
  it("are measured in their order, each with its record", async () => {
    const bench = new Script((_, task) => good(task));
    const { records, left } = await run(bench);
    expect(bench.measured).toEqual(tasks.map(taskKey));
    expect(records).toEqual(tasks.map(good));
    expect([left, bench.recoveries]).toEqual([[], 0]);
  });

  it("go on after one that failed, which is written down with its code and the tool's last words", async () => {
    const details = ["a", "b", "c", "d", "Error (criu/mem.c:1): no"];
    const bench = new Script((index, task) => {
      if (index !== 2) return good(task);
      throw new MwarpError("MWARP_E_DUMP", "CRIU failed", { phase: "dump", details });
    });
    const { records, left, told } = await run(bench);
    expect(records).toHaveLength(tasks.length);
    expect(records[2]).toEqual({
      kind: "failure",
      what: expect.stringContaining("64 MiB thp on hugetlb"),
      round: 0,
      code: "MWARP_E_DUMP",
      message: "CRIU failed (in dump)\nb\nc\nd\nError (criu/mem.c:1): no",
    });
    expect(told).toContain("failed: CRIU failed");
    expect([left, bench.recoveries]).toEqual([[], 1]);
  });

  it("keep the record of a move after which a page is wrong, and begin anew with another container", async () => {
    const bench = new Script((index, task) =>
      index === 1 && task.kind === "migration"
        ? { ...migration(task.cell, task.round), verified: false }
        : good(task),
    );
    const { records } = await run(bench);
    expect(records[1]).toMatchObject({ kind: "migration", verified: false });
    expect(bench.recoveries).toBe(1);
  });

  it("are left to another lab when this one is broken, but for the one that broke it", async () => {
    const bench = new Script((index, task) => {
      if (index !== 3) return good(task);
      throw new MwarpError("MWARP_E_VM_UNREACHABLE", "vm-a has ended");
    });
    bench.sound = false;
    const { left, records } = await run(bench);
    expect(left.map(taskKey)).toEqual(tasks.slice(4).map(taskKey));
    expect(records).toHaveLength(4);
  });

  it("end at Ctrl-C without a record of the one that it cut short", async () => {
    const abort = new AbortController();
    const bench = new Script((index, task) => {
      if (index !== 2) return good(task);
      abort.abort();
      throw new Error("cut short");
    });
    const records: BenchRecord[] = [];
    const progress = { start: () => undefined, measured: () => undefined, failed: () => undefined };
    const ran = runTasks(tasks, bench, {
      append: (...more) => records.push(...more),
      progress,
      signal: abort.signal,
    });
    await expect(ran).rejects.toMatchObject({ code: "MWARP_E_CANCELLED" });
    expect(records).toEqual(tasks.slice(0, 2).map(good));
  });
});

import { describe, expect, it } from "vitest";
import { makePlan, schedule } from "../../../src/bench/plan.js";
import { BenchProgress } from "../../../src/bench/progress.js";
import { Sink } from "../cli/fake-io.js";
import { migration, network } from "./records.js";

const tasks = schedule(
  makePlan("writes", { rounds: 2, method: ["warp"], writeShare: [0], size: [64 * 1024 ** 2] }),
  1,
).flatMap((group) => group.tasks);
const [net, move] = tasks;
if (net?.kind !== "network" || move?.kind !== "migration") throw new Error("the order begins otherwise");

function progressOn(isTTY: boolean): { progress: BenchProgress; stderr: Sink; tick: (ms: number) => void } {
  const stderr = new Sink();
  stderr.isTTY = isTTY;
  let now = 0;
  const progress = new BenchProgress({ stderr, env: { TERM: "xterm" } }, () => now);
  return {
    progress,
    stderr,
    tick: (ms) => {
      now += ms;
    },
  };
}

describe("the progress of a run", () => {
  it("is a line for each measurement where nobody looks at a terminal", () => {
    const { progress, stderr } = progressOn(false);
    progress.begin(tasks, 4);
    progress.note("starting a lab on hugetlb");
    progress.note("starting a lab on hugetlb");
    progress.start(net);
    progress.measured(net, network("hugetlb", 0));
    progress.start(move);
    progress.measured(move, migration(move.cell, 0));
    progress.start(tasks[2]!);
    progress.failed("raw TCP", "the \u001bguest is gone", [tasks[2]!]);
    progress[Symbol.dispose]();
    expect(stderr.text.trimEnd().split("\n")).toEqual([
      "4 of 8 measurements are in the file",
      "starting a lab on hugetlb",
      "[5/8] round 1: raw TCP between the VMs, hugetlb: 256 MiB/s vm-a -> vm-b",
      "[6/8] round 1: warp, 64 MiB thp on hugetlb: total 500 ms, downtime 100 ms, first touch 4 ms, every page right",
      "[7/8] raw TCP: failed: the \\x1bguest is gone",
    ]);
  });

  it("is a bar with what runs and the time that is left on a terminal, and a line for what went wrong", () => {
    const { progress, stderr, tick } = progressOn(true);
    progress.begin(tasks, 0);
    progress.start(net);
    tick(10_000);
    progress.measured(net, network("hugetlb", 0));
    progress.start(move);
    tick(20_000);
    progress.measured(move, { ...migration(move.cell, 0), verified: false });
    progress.start(tasks[2]!);
    progress[Symbol.dispose]();
    // 10 s for the network once more, 20 s for the move.
    expect(stderr.text).toContain("30.0 s left");
    expect(stderr.text).toContain("2/4");
    expect(stderr.text).toContain("PAGES ARE WRONG");
    expect(stderr.text).not.toContain("256 MiB/s");
  });
});

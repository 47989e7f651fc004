import { describe, expect, it } from "vitest";
import { compareMoves } from "../../../src/demo/compare.js";
import { type DemoMove, faults } from "../../../src/demo/result.js";
import { type MigrationReport, NO_DOWNTIME, NO_STUN, phases } from "../../../src/protocol/migration.js";

function report(change: Partial<MigrationReport> = {}): MigrationReport {
  const times = Object.fromEntries(
    phases.map((phase) => [phase, 10]),
  ) as MigrationReport["time_ms"]["phases"];
  return {
    id: "m-00000001",
    container: "web",
    from: "vm-a",
    to: "vm-b",
    method: "warp",
    backend: "remap",
    strategy: null,
    outcome: "committed",
    error: null,
    startedAt: "2026-01-01T00:00:00.000Z",
    time_ms: { total: 900, downtime: 400, downtime_parts: NO_DOWNTIME, phases: times },
    stun_ms: { times: 1, source: 30, destination: 31, parts: NO_STUN },
    memory: {
      bytes: 256 << 20,
      pages: 65_536,
      remapped_pages: 65_000,
      copied_pages: 536,
      shared_pages: 0,
      image_bytes: 1000,
      warped_image_bytes: 0,
      remapped_image_pages: 0,
      copied_image_pages: 0,
      channel_bytes: 2000,
      network_bytes: 0,
      extents: 12,
      staged_pages: 0,
      handed_pages: 0,
    },
    files: { first_bytes: 0, final_bytes: 0 },
    rounds: [],
    commands: [],
    ...change,
  };
}

const moved = (change: Partial<DemoMove> = {}): DemoMove => ({
  report: report(),
  client: { operations: 100, max_gap_ms: 420, reconnects: 0, wrong: 0 },
  check: { keys: 1000, missing: 0, wrong: 0 },
  ...change,
});

const result = (...moves: DemoMove[]) => ({
  accelerator: "tcg",
  backing: "hugetlb",
  keys: 1000,
  data_bytes: 4_096_000,
  moves,
});

describe("the demo's verdict", () => {
  it("finds no fault when every key, answer and connection was kept", () => {
    expect(faults(result(moved(), moved()))).toEqual([]);
  });

  it("names every fault with the move it belongs to", () => {
    const bad = moved({
      client: { operations: 1, max_gap_ms: 1, reconnects: 1, wrong: 2 },
      check: { keys: 1000, missing: 3, wrong: 4 },
    });
    expect(faults(result(moved(), bad))).toEqual([
      "warp vm-a -> vm-b: 3 of 1000 keys are missing",
      "warp vm-a -> vm-b: 4 of 1000 keys have a wrong value",
      "warp vm-a -> vm-b: the client got 2 wrong answers",
      "warp vm-a -> vm-b: the client lost its connection",
    ]);
  });
});

describe("the demo's comparison", () => {
  it("has a column per move, and says of each where its memory went", () => {
    const cold = moved({
      report: report({
        method: "cold",
        backend: null,
        memory: { ...report().memory, remapped_pages: 0, copied_pages: 65_536 },
      }),
    });
    const lines = compareMoves([moved(), cold]).split("\n");
    const row = (name: string): string[] =>
      lines
        .find((line) => line.trimStart().startsWith(name))!
        .trim()
        .split(/\s{2,}/);
    expect(lines[0].trim().split(/\s{2,}/)).toEqual(["warp vm-a -> vm-b", "cold vm-a -> vm-b"]);
    expect(row("changed owner")).toEqual(["changed owner, not copied", "254 MiB", "0 B"]);
    expect(row("copied on the host")).toEqual(["copied on the host", "2.1 MiB", "0 B"]);
    expect(row("copied over the network")).toEqual(["copied over the network", "0 B", "256 MiB"]);
    expect(row("downtime")).toEqual(["downtime", "400 ms", "400 ms"]);
  });
});

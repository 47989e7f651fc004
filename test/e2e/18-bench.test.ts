/** The benchmark: stopped in the middle, gone on with, and nothing of it left but its file. */
import { type ChildProcess, spawn } from "node:child_process";
import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as z from "zod/mini";
import { placeBeside } from "../../src/bench/lab.js";
import { cellKey } from "../../src/bench/matrix.js";
import { type BenchRecord, BenchRecordSchema } from "../../src/bench/records.js";
import { comparable, type HostState, hostState } from "../support/host-state.js";
import { Mwarp, projectRoot } from "../support/mwarp.js";
import { labProcesses } from "../support/processes.mjs";

const RUN_MS = 240_000;
/** Two cells and the network, twice. */
const MEASUREMENTS = 6;
const suite = ["compare", "--size", "16M", "--write-share", "0", "--method", "warp,cold", "--backing", "4k"];

const SummarySchema = z.object({
  measured: z.int(),
  missing: z.int(),
  unverified: z.int(),
  failures: z.array(z.unknown()),
  cells: z.array(z.object({ runs: z.int(), total_ms: z.number() })),
});

let base: string;
let file: string;
let mwarp: Mwarp;
let reaper: ChildProcess;
let before: HostState;

beforeAll(() => {
  base = mkdtempSync(path.join(tmpdir(), "mwt-"));
  file = path.join(base, "results", "run.jsonl");
  const env = { MWARP_RUN_DIR: path.join(base, "run"), MWARP_STATE_DIR: path.join(base, "state") };
  mwarp = new Mwarp(env);
  before = hostState(placeBeside(env.MWARP_RUN_DIR, env.MWARP_STATE_DIR).name);
  const program = path.join(projectRoot, "bin/mwarp");
  reaper = spawn(
    process.execPath,
    [path.join(projectRoot, "test/support/reaper.mjs"), base, program, "-bench"],
    {
      stdio: ["pipe", "ignore", "ignore"],
      detached: true,
    },
  );
  reaper.unref();
});
afterAll(() => {
  reaper.stdin?.end("done");
  rmSync(base, { recursive: true, force: true });
});

const records = (): BenchRecord[] =>
  readFileSync(file, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => BenchRecordSchema.parse(JSON.parse(line)));

function expectNothingLeft(): void {
  const place = placeBeside(mwarp.env.MWARP_RUN_DIR, mwarp.env.MWARP_STATE_DIR);
  expect(labProcesses(place.runDir), "processes").toEqual([]);
  expect(readdirSync(base), "directories").toEqual(["results"]);
  const after = hostState(place.name);
  expect(comparable(after, before), "state of the host").toEqual(comparable(before, after));
}

describe("mwarp bench", () => {
  it(
    "stops at Ctrl-C with what was measured on disk and the lab taken down, and says how to go on",
    async () => {
      const running = mwarp.start(["bench", ...suite, "--rounds", "2", "--output", file], {
        timeoutMs: RUN_MS,
      });
      await running.seen(/\[2\/6\]/);
      running.process.kill("SIGINT");
      const { exit, stderr, stdout } = await running.finished;
      expect([exit, stdout]).toEqual([130, ""]);
      expect(stderr).toContain(`mwarp bench --resume ${file}`);
      const [run, ...measured] = records();
      expect(run).toMatchObject({ kind: "run", accelerator: expect.any(String), plan: { rounds: 2 } });
      expect(measured.length).toBeGreaterThanOrEqual(2);
      expect(measured.length).toBeLessThan(MEASUREMENTS);
      expectNothingLeft();
    },
    RUN_MS,
  );

  it("does not begin on a file that is there, nor go on with one of another plan", async () => {
    const kept = readFileSync(file, "utf8");
    const again = await mwarp.run(["bench", ...suite, "--output", file]);
    expect([again.exit, again.stderr]).toEqual([2, expect.stringContaining("exists already")]);
    const other = await mwarp.run(["bench", ...suite, "--rounds", "3", "--resume", file]);
    expect([other.exit, other.stderr]).toEqual([
      2,
      expect.stringContaining("plan.rounds: 2 in the file, 3 now"),
    ]);
    expect(readFileSync(file, "utf8")).toBe(kept);
  });

  it(
    "goes on after a line that was cut off, measures only what is missing, and finds every page right",
    async () => {
      const kept = readFileSync(file, "utf8");
      appendFileSync(file, '{"kind":"migration","cell":{"back');
      const summary = await mwarp.json(SummarySchema, ["bench", "--resume", file], { timeoutMs: RUN_MS });
      expect(summary).toMatchObject({ measured: MEASUREMENTS, missing: 0, unverified: 0, failures: [] });
      expect(summary.cells.map(({ runs }) => runs)).toEqual([2, 2]);
      expect(readFileSync(file, "utf8").startsWith(kept)).toBe(true);

      const all = records();
      expect(all).toHaveLength(1 + MEASUREMENTS);
      const migrations = all.flatMap((record) => (record.kind === "migration" ? [record] : []));
      expect(new Set(migrations.map(({ cell, round }) => `${cellKey(cell)} ${round}`)).size).toBe(4);
      for (const { cell, report, usage, verified, first_touch_ms, second_touch_ms } of migrations) {
        expect(verified).toBe(true);
        expect(report).toMatchObject({ outcome: "committed", error: null, method: cell.method });
        expect(usage.cpu_ms.daemon).toBeGreaterThan(0);
        expect(usage.cpu_ms.source_vmm).toBeGreaterThan(0);
        expect(usage.pss.peak).toBeGreaterThanOrEqual(usage.pss.before);
        expect(usage.pss.before).toBeGreaterThan(cell.size);
        expect(first_touch_ms).toBeGreaterThan(0);
        expect(second_touch_ms).toBeGreaterThan(0);
      }
      const networks = all.flatMap((record) => (record.kind === "network" ? [record] : []));
      expect(networks.map(({ from, to }) => `${from} ${to}`)).toEqual(["vm-a vm-b", "vm-b vm-a"]);
      for (const { bytes, time_ms } of networks) expect((bytes / time_ms) * 1000).toBeGreaterThan(1e6);
      expectNothingLeft();
    },
    RUN_MS,
  );

  it("has nothing to do on a file that is whole", async () => {
    const kept = readFileSync(file, "utf8");
    const end = await mwarp.run(["bench", "--resume", file]);
    expect([end.exit, end.stderr]).toEqual([0, expect.stringContaining(`results: ${file}`)]);
    expect(readFileSync(file, "utf8")).toBe(kept);
    expect(existsSync(path.join(base, "run-bench"))).toBe(false);
  });

  /** One round of a suite with the smallest container, by warp. */
  async function oneRound(name: string): Promise<readonly BenchRecord[]> {
    rmSync(file);
    const argv = ["bench", name, "--size", "16M", "--method", "warp", "--backing", "4k", "--rounds", "1"];
    const summary = await mwarp.json(SummarySchema, [...argv, "--output", file], { timeoutMs: RUN_MS });
    expect(summary).toMatchObject({ missing: 0, unverified: 0, failures: [] });
    expectNothingLeft();
    return records();
  }

  it(
    "measures how long a small process does not run between runc's checkpoint and restore",
    async () => {
      const floors = (await oneRound("downtime")).flatMap((one) => (one.kind === "floor" ? [one] : []));
      expect(floors).toHaveLength(1);
      const [{ frozen_ms, commands_ms }] = floors;
      // It runs on while the first runc starts.
      expect(frozen_ms).toBeGreaterThan(commands_ms / 10);
      expect(frozen_ms).toBeLessThan(commands_ms);
    },
    RUN_MS,
  );

  it(
    "measures every page of a container that is busy with them, and finds each right",
    async () => {
      const busy = (await oneRound("stalls")).flatMap((one) => (one.kind === "stalls" ? [one] : []));
      expect(busy).toHaveLength(1);
      const [{ stalls, report, verified }] = busy;
      expect([verified, report.outcome, stalls.pages]).toEqual([true, "committed", 4096]);
      expect(stalls.histogram.reduce((sum, { pages }) => sum + pages, 0)).toBe(4096);
      expect(stalls.passes).toBeGreaterThan(0);
      expect(stalls.longest_ms).toBeGreaterThan(0);
      expect(stalls.longest_ms).toBeLessThanOrEqual(stalls.window_ms);
      // What was before the resume is in none of them.
      expect(stalls.longest_ms).toBeLessThan(report.time_ms.downtime);
    },
    RUN_MS,
  );
});

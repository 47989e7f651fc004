import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { makePlan } from "../../../src/bench/plan.js";
import type { BenchRecord } from "../../../src/bench/records.js";
import { ResultsFile, readResults } from "../../../src/bench/results-file.js";
import { differences, requireSame, runOf } from "../../../src/bench/resume.js";
import { summarize, summaryTable } from "../../../src/bench/summary.js";
import { stall } from "./fixtures.js";
import { application, failure, migration, network, runRecord } from "./records.js";

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "mwarp-results-"));
  file = path.join(directory, "results", "run.jsonl");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const [cell] = makePlan("quick", {}).cells;
const records = [runRecord(), network("hugetlb", 0), migration(cell!, 0)];

function write(): void {
  using results = ResultsFile.create(file);
  for (const record of records) results.append(record);
}

describe("a results file", () => {
  it("gives back what was appended, in a directory that it makes", () => {
    write();
    expect(readResults(file).records).toEqual(records);
  });

  it("is never written over", () => {
    write();
    expect(() => ResultsFile.create(file)).toThrow(/exists already/);
    expect(readResults(file).records).toEqual(records);
  });

  it.each([
    ["half a record", '{"kind":"migration","cell":{"backi'],
    ["a whole record without its newline", JSON.stringify(failure("cut"))],
    ["bytes that are no text", "\u0000\ufffd"],
  ])("is gone on with where its last whole line ends, after %s", (_what, tail) => {
    write();
    appendFileSync(file, tail);
    const read = readResults(file);
    expect(read.records).toEqual(records);
    using results = ResultsFile.goOn(file, read);
    results.append(failure("warp"));
    expect(readResults(file).records).toEqual([...records, failure("warp")]);
    expect(readFileSync(file, "utf8").trimEnd().split("\n")).toHaveLength(4);
  });

  it("tells a line that was cut off from one that is whole, whatever that holds", () => {
    write();
    expect(readResults(file).cutOff).toBe(false);
    appendFileSync(file, '{"kind":');
    expect(readResults(file).cutOff).toBe(true);
    appendFileSync(file, "\n");
    expect(() => readResults(file)).toThrow("run.jsonl, line 4: not a record");
  });

  it("is refused with the number of a line that is no record, and with what is wrong in it", () => {
    write();
    const [cut] = records.slice(-1);
    appendFileSync(file, `${JSON.stringify({ ...cut, round: "x" })}\n${JSON.stringify(failure("x"))}\n`);
    expect(() => readResults(file)).toThrow("run.jsonl, line 4: not a record");
    expect(() => readResults(path.join(directory, "none"))).toThrow(/cannot be read/);
  });

  it("is refused when it is of another version or does not begin with a run", () => {
    mkdirSync(path.dirname(file));
    writeFileSync(file, `${JSON.stringify({ ...runRecord(), version: 99 })}\n`);
    expect(() => readResults(file)).toThrow("records of version 99");
    writeFileSync(file, `${JSON.stringify(failure("x"))}\n`);
    expect(() => readResults(file)).toThrow("not that of a run");
    writeFileSync(file, "");
    expect(readResults(file).records).toEqual([]);
  });
});

describe("going on with a run", () => {
  const run = runRecord();

  it("needs a file that says what it is to measure", () => {
    expect(runOf(file, records).plan).toEqual(run.plan);
    expect(() => runOf(file, [])).toThrow(/does not say/);
    expect(() => runOf(file, [runRecord({ plan: undefined })])).toThrow(/does not say/);
  });

  it.each([
    [{ commit: "other" }, "commit: 0123456789 in the file, other now"],
    [{ commit: null }, "commit: 0123456789 in the file, null now"],
    [{ build: "ffff" }, "build: abcdef012345 in the file, ffff now"],
    [{ accelerator: "kvm" as const }, "accelerator: tcg in the file, kvm now"],
    [{ machine: { ...run.machine, kernel: "6.2.0" } }, "machine.kernel: 6.1.0 in the file, 6.2.0 now"],
    [{ guest: { ...run.guest, criu: "4.2" } }, "guest.criu: 4.1.1 in the file, 4.2 now"],
    [{ plan: { ...makePlan("quick", {}), rounds: 5 } }, "plan.rounds: 2 in the file, 5 now"],
    [
      { plan: makePlan("quick", { method: ["warp"] }) },
      "plan.cells: 4 of a kind in the file, 1 of a kind now",
    ],
  ])("is refused when %j differs, and says so", (change, difference) => {
    expect(differences(run, { ...run, ...change })).toEqual([difference]);
    expect(() => requireSame(file, run, { ...run, ...change })).toThrow(difference);
  });

  it("compares only what both sides know", () => {
    expect(differences(run, run)).toEqual([]);
    expect(differences(run, { commit: run.commit })).toEqual([]);
  });
});

describe("the summary", () => {
  it("counts what was measured, what is missing and what went wrong, with medians of each cell", () => {
    const all = [
      runRecord(),
      network("hugetlb", 0),
      migration(cell!, 0, 400),
      { ...migration(cell!, 1, 600), verified: false },
      failure("cold"),
      { ...stall({ cell, slow: 3 }), verified: false },
      stall({ cell, round: 1, slow: 5 }),
      application({ application: "redis", backing: "hugetlb", method: "warp" }, 0),
    ];
    const summary = summarize(file, all);
    // Two rounds of one network, four cells, and plans and crossover for two kinds of host pages.
    expect(summary).toMatchObject({ measured: 6, missing: 12, unverified: 2 });
    expect(summary.failures).toEqual([{ what: "cold", code: "MWARP_E_DUMP", message: "CRIU said no" }]);
    expect(summary.cells).toEqual([{ cell, runs: 2, total_ms: 500, downtime_ms: 100, first_touch_ms: 4 }]);
    expect(summary.stalls).toMatchObject([{ runs: 2, total_ms: 700, downtime_ms: 500, p99_stall_ms: 4 }]);
    const table = summaryTable(summary);
    expect(table).toMatch(/warp, 64 MiB thp on hugetlb +2 +500 ms +100 ms +4 ms +- +-/);
    expect(table).toMatch(/page stalls of warp, 64 MiB thp on hugetlb +2 +700 ms +500 ms +- +4.00 ms +-/);
    // 90 of 100 operations.
    expect(table).toMatch(/redis, warp on hugetlb +1 +500 ms +100 ms +- +- +10 %/);
  });

  it("says nothing of what an application lost that did nothing before the move either", () => {
    const still = application({ application: "redis", backing: "hugetlb", method: "warp" }, 0);
    const summary = summarize(file, [
      runRecord(),
      { ...still, operations: 0, expected_operations: 0 } as BenchRecord,
    ]);
    expect(summary.applications).toMatchObject([{ runs: 1, lost_share: null }]);
    expect(summaryTable(summary)).toMatch(/redis, warp on hugetlb +1 .* -/);
  });
});

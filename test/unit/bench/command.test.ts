/** `mwarp bench` up to the point where it would start a lab. */
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { versionIn } from "../../../src/bench/machine.js";
import { ResultsFile } from "../../../src/bench/results-file.js";
import { FakeIo, mwarp } from "../cli/fake-io.js";
import { failure, network, runRecord } from "./records.js";

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "mwarp-bench-"));
  file = path.join(directory, "run.jsonl");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe("mwarp bench", () => {
  it("needs root", async () => {
    const io = new FakeIo();
    io.isRoot = false;
    expect(await mwarp(io, "bench")).toMatchObject({ status: 2, err: expect.stringContaining("NOT_ROOT") });
  });

  it.each([
    [["teleport"], "Allowed choices are quick, bars, compare"],
    [["--size", "64M,lots"], "write 512M, 2G"],
    [["--pages", "huge"], "Allowed choices are thp, scattered"],
    [["--backing", "4k,8k"], "Allowed choices are 4k, thp, hugetlb"],
    [["--write-share", "-1"], "write 0, 0.5 or 1"],
    [["--method", "warp,"], "Allowed choices are warp, cold, precopy, postcopy"],
    [["--rounds", "0"], "at least 1"],
    [["--size", "4K"], "can be measured"],
    [["--resume", "a", "--output", "b"], "cannot be used with"],
    [["--resume", "none.jsonl"], "cannot be read"],
  ])("refuses %j before anything is started", async (argv, words) => {
    const { status, out, err } = await mwarp(new FakeIo(), "bench", ...argv);
    expect([status, out]).toEqual([2, ""]);
    expect(err).toContain(words);
  });

  it("begins no file anew, and goes on only with what it was begun with", async () => {
    using results = ResultsFile.create(file);
    results.append(runRecord(), failure("warp"));
    const again = await mwarp(new FakeIo(), "bench", "--output", file);
    expect(again.err).toContain("exists already");
    const other = await mwarp(new FakeIo(), "bench", "--resume", file, "--rounds", "7");
    expect(other).toMatchObject({ status: 2 });
    expect(other.err).toContain("plan.rounds: 2 in the file, 7 now");
    const suite = await mwarp(new FakeIo(), "bench", "compare", "--resume", file);
    expect(suite.err).toContain("plan.suite: quick in the file, compare now");
  });
});

describe("mwarp bench report", () => {
  it("makes an HTML page beside the results, or what is asked for, and says of a line that was cut off", async () => {
    {
      using results = ResultsFile.create(file);
      results.append(runRecord(), network("hugetlb", 0));
    }
    appendFileSync(file, '{"kind":');
    const page = path.join(directory, "run.html");
    const beside = await mwarp(new FakeIo(), "bench", "report", file);
    expect(beside).toMatchObject({ status: 0, out: `${page}\n`, err: expect.stringContaining("cut off") });
    expect(readFileSync(page, "utf8")).toContain("<html");
    const markdown = path.join(directory, "docs", "results.md");
    const asked = await mwarp(new FakeIo(), "bench", "report", file, "--markdown", markdown);
    expect(asked).toMatchObject({ status: 0, out: `${markdown}\n` });
    expect(readFileSync(markdown, "utf8")).toMatch(/^#/m);
    expect((await mwarp(new FakeIo(), "bench", "report", path.join(directory, "no"))).status).toBe(2);
  });
});

describe("the version of a program", () => {
  it("is the number in its first line", () => {
    expect(versionIn("QEMU emulator version 7.2.9 (Debian 1:7.2+dfsg-7)\nCopyright 2022\n")).toBe("7.2.9");
    expect(versionIn("unknown\n")).toBe("unknown");
  });
});

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import {
  parseCpuMs,
  parsePss,
  procReader,
  type UsageReader,
  UsageSampler,
} from "../../../src/bench/usage.js";

const watched = { source_vmm: 1, destination_vmm: 2, daemon: 3 };

/** A reader whose answers a test sets. */
class Fake implements UsageReader {
  readonly cpu = new Map([
    [1, 1000],
    [2, 2000],
    [3, 3000],
  ]);
  readonly pss = new Map([
    [1, 100],
    [2, 200],
    [3, 10],
  ]);
  reads = 0;
  gone = false;

  async cpuMs(pid: number): Promise<number> {
    return this.cpu.get(pid) ?? Number.NaN;
  }

  async pssBytes(pid: number): Promise<number> {
    this.reads++;
    if (this.gone) throw new Error("gone");
    return this.pss.get(pid) ?? Number.NaN;
  }
}

describe("the usage of a migration", () => {
  it("is processor time from begin to end, and memory before and at its highest", async () => {
    const reader = new Fake();
    const sampler = await UsageSampler.begin(watched, reader, 5);
    reader.pss.set(2, 700);
    reader.cpu.set(1, 1250).set(3, 3010);
    await sleep(40);
    reader.pss.set(2, 50);
    await sleep(20);
    expect(await sampler.end()).toEqual({
      cpu_ms: { source_vmm: 250, destination_vmm: 0, daemon: 10 },
      pss: { before: 310, peak: 810 },
    });
  });

  it("counts what is there at the end even when it was shorter than the time between two looks", async () => {
    const reader = new Fake();
    const sampler = await UsageSampler.begin(watched, reader, 60_000);
    reader.pss.set(1, 1100);
    expect((await sampler.end()).pss).toEqual({ before: 310, peak: 1310 });
  });

  it("stops looking at its end, also when nobody asks for the result", async () => {
    const reader = new Fake();
    {
      using _sampler = await UsageSampler.begin(watched, reader, 5);
      await sleep(20);
    }
    await sleep(10);
    const { reads } = reader;
    await sleep(30);
    expect(reader.reads).toBe(reads);
  });

  it("fails when one of the watched has ended meanwhile", async () => {
    const reader = new Fake();
    const sampler = await UsageSampler.begin(watched, reader, 5);
    reader.gone = true;
    await sleep(20);
    await expect(sampler.end()).rejects.toThrow("gone");
  });
});

describe("what /proc says", () => {
  it("is read past a command name with spaces and parentheses in it", () => {
    const stat = "77 (mwarp-vm) a (x) S 1 77 77 0 -1 4194560 500 0 0 0 123 45 0 0 20 0 3 0 900 1000 20";
    expect(parseCpuMs(stat)).toBe(1680);
  });

  it("counts huge pages, which the kernel leaves out of Pss", () => {
    const rollup = [
      "00400000-7fff00000000 ---p 00000000 00:00 0    [rollup]",
      "Rss:              400000 kB",
      "Pss:                1000 kB",
      "Pss_Anon:            900 kB",
      "Shared_Hugetlb:      200 kB",
      "Private_Hugetlb:    4096 kB",
      "",
    ].join("\n");
    expect(parsePss(rollup)).toBe((1000 + 4096 + 100) * 1024);
  });

  it("is true of this process", async () => {
    const before = await procReader.cpuMs(process.pid);
    const until = performance.now() + 100;
    while (performance.now() < until) readFileSync("/proc/self/stat");
    expect(await procReader.cpuMs(process.pid)).toBeGreaterThanOrEqual(before + 30);
    const pss = await procReader.pssBytes(process.pid);
    expect(pss).toBeGreaterThan(10e6);
    expect(pss).toBeLessThan(2e9);
    await expect(procReader.pssBytes(2 ** 30)).rejects.toThrow(/ended/);
  });
});

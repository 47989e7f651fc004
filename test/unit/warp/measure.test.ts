/** Real measurements. What they find is the machine's affair: only what holds on any is asked for. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { ExchangeCostsSchema } from "../../../src/protocol/costs.js";
import { measureCosts } from "../../../src/warp/measure/measure-costs.js";
import { MemoryPair } from "../../../src/warp/measure/memory-pair.js";

const signal = AbortSignal.timeout(60_000);
/** Of this file alone: other tests measure at the same time. */
const temporary = mkdtempSync(path.join(tmpdir(), "mwt-measure-"));
const leftovers = (): string[] => readdirSync(temporary);

beforeAll(() => {
  vi.stubEnv("TMPDIR", temporary);
  const root = path.resolve(import.meta.dirname, "../../..");
  const parts = ["warp-copy.node", "mwarp-memory", "libmwarp-vmm.so"].map((name) => `dist/native/${name}`);
  execFileSync("make", ["-s", ...parts], { cwd: root, stdio: "inherit" });
}, 60_000);

afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(temporary, { recursive: true });
});

describe("measuring the costs of exchanges", () => {
  it("gives costs of each kind of memory that can be had, and leaves nothing behind", async () => {
    const costs = await measureCosts(signal);
    for (const kind of ["4k", "thp"] as const) ExchangeCostsSchema.parse(costs[kind]);
    // A page alone is dearer to remap than to copy on any host: an exchange changes both VMMs' mappings for it.
    const { remapPerExtentUs, copyPerPageUs } = costs["4k"]!;
    expect(remapPerExtentUs).toBeGreaterThan(copyPerPageUs);
    expect(leftovers()).toEqual([]);
  }, 60_000);

  it("ends when it is told to", async () => {
    await expect(measureCosts(AbortSignal.abort())).rejects.toThrow();
    await expect(measureCosts(AbortSignal.timeout(50))).rejects.toThrow();
    expect(leftovers()).toEqual([]);
  });

  it("says that there is none where so much memory of a kind cannot be had", async () => {
    // 16 GiB of huge pages.
    expect(await MemoryPair.start("hugetlb", 2 ** 22, signal)).toBeNull();
  });
});

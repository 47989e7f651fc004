/** Real measurements. What they find is the machine's affair: only what holds on any is asked for. */
import { execFileSync } from "node:child_process";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { baseLayouts, drawExtents, hugeLayouts } from "../../../src/bench/layouts.js";
import { measureCrossover, measurePlanner } from "../../../src/bench/planner.js";
import { CrossoverRecordSchema, PlannerRecordSchema } from "../../../src/bench/records.js";
import { PAGE_BYTES } from "../../../src/units.js";

const PAGES = 2048;
const signal = AbortSignal.timeout(60_000);

beforeAll(() => {
  const root = path.resolve(import.meta.dirname, "../../..");
  const parts = ["warp-copy.node", "mwarp-memory", "libmwarp-vmm.so"].map((name) => `dist/native/${name}`);
  execFileSync("make", ["-s", ...parts], { cwd: root, stdio: "inherit" });
}, 60_000);

describe("layouts", () => {
  it.each([...baseLayouts, ...hugeLayouts])(
    "of $name are drawn within the memory, each frame once on both sides",
    (layout) => {
      for (const seed of [0, 1, 7]) {
        const extents = drawExtents(layout, 8192, seed);
        const seen = [new Set<number>(), new Set<number>()];
        for (let index = 0; index < extents.count; index++)
          for (let page = 0; page < extents.pages[index]!; page++) {
            seen[0]!.add(extents.sourceFrames[index]! + page);
            seen[1]!.add(extents.destinationFrames[index]! + page);
          }
        expect(seen.map((frames) => frames.size)).toEqual([extents.totalPages, extents.totalPages]);
        expect(Math.max(...seen[0]!, ...seen[1]!)).toBeLessThan(8192);
        expect(extents.totalPages).toBe(Math.floor(8192 * layout.share));
        expect(drawExtents(layout, 8192, seed)).toEqual(extents);
      }
    },
  );
});

describe("the planner's records", () => {
  it("hold for each layout what was predicted and what it took, and the plan is never predicted to be the worse", async () => {
    const records = await measurePlanner(1, PAGE_BYTES, signal, PAGES);
    expect(records.map(({ layout }) => layout)).toEqual(baseLayouts.map(({ name }) => name));
    for (const record of records) {
      PlannerRecordSchema.parse(record);
      const { auto, remap, copy } = record.predicted_ms;
      expect(auto).toBeLessThanOrEqual(Math.min(copy, remap ?? copy) + 1e-9);
      expect(record.measured_ms.auto).toBeGreaterThan(0);
      expect(record.measured_ms.copy).toBeGreaterThan(0);
      expect(record.measured_ms.remap === null).toBe(remap === null);
    }
  }, 60_000);

  it("of the crossover are one for each length of run that fits", async () => {
    const records = await measureCrossover(2, PAGE_BYTES, signal, PAGES);
    expect(records.map(({ run_pages }) => run_pages)).toEqual([1, 4, 16, 64, 256, 512, 2048]);
    for (const record of records) {
      CrossoverRecordSchema.parse(record);
      expect(record.pages).toBe(PAGES);
      expect(Math.min(record.remap_ms, record.touch_ms, record.copy_ms)).toBeGreaterThan(0);
    }
  }, 60_000);
});

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type SidePieces, splitByBacking } from "../../../src/warp/backends/exchange-pieces.js";
import { RemapBackend } from "../../../src/warp/backends/remap.js";
import { cutByBacking } from "../../../src/warp/candidates.js";
import { extentsOf, MemoryHolder, PAGES, remapSide, useHolders } from "./memory-holder.js";

useHolders();

const mappings = (holder: MemoryHolder): number =>
  readFileSync(`/proc/${holder.pid}/maps`, "utf8").split("\n").length - 1;

/** Extents of one exchange that do not overlap on either side: each takes its frames from a lane of its own. */
const LANES = 8;
const LANE = PAGES / LANES;
const extents = fc
  .shuffledSubarray([...Array(LANES).keys()], { minLength: 1 })
  .chain((lanes) =>
    fc.tuple(
      fc.constant(lanes),
      fc.shuffledSubarray([...Array(LANES).keys()], { minLength: lanes.length, maxLength: lanes.length }),
      fc.array(fc.tuple(fc.nat(200), fc.nat(200), fc.integer({ min: 1, max: 250 })), {
        minLength: lanes.length,
        maxLength: lanes.length,
      }),
    ),
  )
  .map(([from, to, shapes]) =>
    shapes.map(
      ([sourceAt, destinationAt, pages], index) =>
        [from[index] * LANE + sourceAt, to[index] * LANE + destinationAt, pages] as const,
    ),
  );

describe("candidates for a remap", () => {
  it("after any exchanges lie in one mapping on both sides, and no VMM gets more mappings than they say", async () => {
    await using source = await MemoryHolder.start(1);
    await using destination = await MemoryHolder.start(2);
    let patchwork = 0;
    await fc.assert(
      fc.asyncProperty(extents, async (rows) => {
        const [from, to] = [remapSide(source), remapSide(destination)];
        const candidates = cutByBacking(extentsOf(rows), from.now, to.now);
        expect(candidates.totalPages).toBe(rows.reduce((sum, [, , pages]) => sum + pages, 0));
        const added = candidates.newMappings.reduce((sum, count) => sum + count, 0);
        const before = [mappings(source), mappings(destination)];
        const done = await new RemapBackend(from, to, ({ count }) =>
          expect(count, "mmap calls on each side").toBe(candidates.count),
        ).exchange(candidates);
        const after = [mappings(source), mappings(destination)];
        await done.release();
        for (const side of [0, 1]) expect(after[side] - before[side]).toBeLessThanOrEqual(added);
        patchwork = Math.max(patchwork, ...after);
      }),
      { numRuns: 60 },
    );
    // It was a patchwork on which that was tried, not two whole memories.
    expect(patchwork).toBeGreaterThan(100);
  });

  it("need no mapping where both VMMs have borders already", async () => {
    await using source = await MemoryHolder.start(1);
    await using destination = await MemoryHolder.start(2);
    const rows = extentsOf([
      [10, 500, 20],
      [100, 30, 7],
    ]);
    const cut = () => cutByBacking(rows, remapSide(source).now, remapSide(destination).now);
    expect([...cut().newMappings]).toEqual([2, 2]);
    await (
      await new RemapBackend(remapSide(source), remapSide(destination), () => undefined).exchange(rows)
    ).release();
    expect([...cut().newMappings]).toEqual([0, 0]);
  });

  it("are cut only where no one mmap would do: what lies in a row on both sides has another file or offset behind it", async () => {
    await using source = await MemoryHolder.start(1);
    await using destination = await MemoryHolder.start(2);
    await fc.assert(
      fc.asyncProperty(extents, async (rows) => {
        const [from, to] = [remapSide(source), remapSide(destination)];
        const { count, bytes, ...pieces } = splitByBacking(extentsOf(rows), from.now, to.now);
        for (let piece = 1; piece < count; piece++) {
          const follows = ({ hva }: SidePieces): boolean => hva[piece] === hva[piece - 1] + bytes[piece - 1];
          const continues = ({ file, offset }: SidePieces): boolean =>
            file[piece] === file[piece - 1] && offset[piece] === offset[piece - 1] + bytes[piece - 1];
          if (follows(pieces.source) && follows(pieces.destination))
            expect(continues(pieces.source) && continues(pieces.destination)).toBe(false);
        }
        await (await new RemapBackend(from, to, () => undefined).exchange(extentsOf(rows))).release();
      }),
      { numRuns: 30 },
    );
  });

  it("are cut where a mapping of either side ends", async () => {
    await using source = await MemoryHolder.start(1);
    await using destination = await MemoryHolder.start(2);
    const single = extentsOf([[50, 60, 1]]);
    await (
      await new RemapBackend(remapSide(source), remapSide(destination), () => undefined).exchange(single)
    ).release();
    const { pages, newMappings } = cutByBacking(
      extentsOf([[40, 40, 30]]),
      remapSide(source).now,
      remapSide(destination).now,
    );
    expect([...pages]).toEqual([10, 1, 9, 1, 9]);
    expect([...newMappings]).toEqual([2, 2, 1, 2, 2]);
  });
});

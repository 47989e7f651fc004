import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FrameSet } from "../../../src/warp/frame-set.js";

const TOP = 2 ** 32;
/** Near the borders of words and of chunks, and at both ends of what a frame number can be. */
const frame = fc
  .tuple(fc.constantFrom(0, 2 ** 15, 2 ** 31, TOP - 2 ** 15), fc.integer({ min: 0, max: 300 }))
  .map(([base, offset]) => base + offset);
const run = fc.tuple(frame, fc.integer({ min: 1, max: 600 }));

describe("a set of frames", () => {
  it("takes a run all or not at all, as frame by frame it would have found out", () => {
    fc.assert(
      fc.property(fc.array(run, { maxLength: 30 }), (runs) => {
        const set = new FrameSet();
        const members = new Set<number>();
        for (const [first, frames] of runs) {
          const all = Array.from({ length: frames }, (_, at) => first + at);
          const isNew = all.every((one) => !members.has(one));
          expect(set.addRun(first, frames)).toBe(isNew);
          if (isNew) for (const one of all) members.add(one);
          expect(set.size).toBe(members.size);
          for (const one of [first - 1, ...all, first + frames])
            if (one >= 0 && one < TOP) expect(set.has(one)).toBe(members.has(one));
        }
        const found: number[] = [];
        set.forEachGroup((start, low, high) => {
          for (let bit = 0; bit < 64; bit++)
            if (((bit < 32 ? low : high) & (1 << (bit & 31))) !== 0) found.push(start + bit);
        });
        expect(found).toEqual([...members].sort((a, b) => a - b));
      }),
      { numRuns: 60 },
    );
  });
});

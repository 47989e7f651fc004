import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { addBuckets, bucketsOf, stallQuantile } from "../../../src/bench/stall-histogram.js";

/** By the program's own words: below 4 ns each its own, above them four to an octave. */
const bucketOf = (ns: number): number => {
  if (ns < 4) return ns;
  const octave = Math.floor(Math.log2(ns));
  return (octave - 1) * 4 + (Math.floor(ns / 2 ** (octave - 2)) % 4);
};

describe("the buckets of the program", () => {
  it("hold the times that were counted in them, and are narrow", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 40 }), (ns) => {
        const [bucket] = bucketsOf(`${bucketOf(ns)}:1`);
        expect(bucket.from_ns).toBeLessThanOrEqual(ns);
        expect(bucket.to_ns).toBeGreaterThan(ns);
        expect(bucket.to_ns - bucket.from_ns).toBeLessThanOrEqual(Math.max(1, bucket.from_ns / 4));
      }),
    );
  });

  it("touch each other", () => {
    const all = bucketsOf(Array.from({ length: 160 }, (_, bucket) => `${bucket}:1`).join(" "));
    for (const [index, { from_ns }] of all.slice(1).entries()) expect(from_ns).toBe(all[index].to_ns);
  });

  it("come in the order of their times, without the words around them", () => {
    expect(bucketsOf("stalls moved=1 window=77 12:3 4:2")).toEqual([
      { from_ns: 4, to_ns: 5, pages: 2 },
      { from_ns: 16, to_ns: 20, pages: 3 },
    ]);
  });
});

describe("a quantile", () => {
  it("lies in the bucket that has it, as far in as its pages are", () => {
    const buckets = [
      { from_ns: 100, to_ns: 200, pages: 90 },
      { from_ns: 1_000_000, to_ns: 2_000_000, pages: 10 },
    ];
    expect(stallQuantile(buckets, 0.45)).toBeCloseTo(0.00015, 9);
    expect(stallQuantile(buckets, 0.9)).toBeCloseTo(0.0002, 9);
    expect(stallQuantile(buckets, 0.99)).toBeCloseTo(1.9, 9);
    expect(stallQuantile(buckets, 1)).toBe(2);
  });

  it("is none of no pages", () => {
    expect(stallQuantile([], 0.5)).toBeNull();
    expect(stallQuantile([{ from_ns: 1, to_ns: 2, pages: 0 }], 0.5)).toBeNull();
  });
});

describe("several histograms", () => {
  it("become one that has all their pages", () => {
    const [one, other] = [bucketsOf("8:1 20:5"), bucketsOf("20:2 40:1")];
    expect(addBuckets([one, other]).map(({ pages }) => pages)).toEqual([1, 7, 1]);
    expect(addBuckets([one, other])[1]).toEqual({ ...one[1], pages: 7 });
    expect(addBuckets([])).toEqual([]);
  });
});

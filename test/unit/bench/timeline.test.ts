import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { OperationLog } from "../../../src/bench/applications/operations.js";
import { checkWindow, cutTimeline } from "../../../src/bench/applications/timeline.js";

const window = { zero: 100_000, before: 1_000, after: 3_000, interval: 250 };

/** A log of operations that ended at these times after the command, ms, each with the latency beside it. */
function logOf(operations: readonly (readonly [at: number, latencyMs: number])[]): OperationLog {
  const log = new OperationLog();
  for (const [at, latency] of operations) log.add(window.zero + at, latency);
  return log;
}

/** One operation each `every` ms, from `from` on and before `to`. */
const steady = (from: number, to: number, every: number): [number, number][] =>
  Array.from({ length: Math.ceil((to - from) / every) }, (_, i) => [from + i * every, every]);

describe("the timeline of a window", () => {
  it("covers the window without a hole, and has each operation that ended in it once", () => {
    const time = fc.double({ min: -3_000, max: 5_000, noNaN: true });
    fc.assert(
      fc.property(fc.array(time, { maxLength: 300 }), (times) => {
        const sorted = times.toSorted((a, b) => a - b);
        const { samples, operations } = cutTimeline(logOf(sorted.map((at) => [at, 1])), window);
        expect(samples.map(({ at_ms }) => at_ms)).toEqual(
          Array.from({ length: 16 }, (_, i) => -1_000 + i * 250),
        );
        for (const sample of samples) {
          const inside = sorted.filter((at) => {
            const after = window.zero + at - (window.zero - window.before);
            return Math.floor(after / 250) === (sample.at_ms + 1_000) / 250;
          });
          expect(sample.operations).toBe(inside.length);
        }
        expect(operations).toBe(samples.reduce((sum, one) => sum + one.operations, 0));
      }),
    );
  });

  it("says null, not zero, of an interval in which nothing ended", () => {
    const { samples, operations, expected_operations } = cutTimeline(logOf([]), window);
    expect(samples[3]).toEqual({ at_ms: -250, operations: 0, p50_ms: null, p99_ms: null, max_ms: null });
    expect({ operations, expected_operations }).toEqual({ operations: 0, expected_operations: 0 });
  });

  it("shows an outage over several intervals as empty ones, and its length where the answer came", () => {
    const answered = 1_130;
    const log = logOf([...steady(-1_000, 100, 10), [answered, answered - 90], ...steady(1_140, 3_000, 10)]);
    const { samples } = cutTimeline(log, window);
    const empty = samples.filter(({ operations }) => operations === 0).map(({ at_ms }) => at_ms);
    expect(empty).toEqual([250, 500, 750]);
    const after = samples.find(({ at_ms }) => at_ms === 1_000)!;
    expect(after.max_ms).toBe(1_040);
    expect(after.p50_ms).toBeCloseTo(10, 1);
  });

  it("expects in the whole window what the rate before the command would have made", () => {
    const log = logOf([...steady(-1_000, 0, 4), ...steady(2_000, 3_000, 4)]);
    const { operations, expected_operations } = cutTimeline(log, window);
    expect({ operations, expected_operations }).toEqual({ operations: 500, expected_operations: 1_000 });
  });

  it("keeps what ended outside the window out of every number", () => {
    const log = logOf([
      [-1_001, 900],
      [-999, 1],
      [2_999, 2],
      [3_000, 900],
    ]);
    const { samples, operations, expected_operations } = cutTimeline(log, window);
    expect({ operations, expected_operations }).toEqual({ operations: 2, expected_operations: 4 });
    expect(Math.max(...samples.map(({ max_ms }) => max_ms ?? 0))).toBe(2);
  });

  it("gives percentiles by the nearest rank, to three digits, and the exact maximum", () => {
    const latency = fc.double({ min: 0.001, max: 200_000, noNaN: true });
    fc.assert(
      fc.property(fc.array(latency, { minLength: 1, maxLength: 400 }), (latencies) => {
        const sorted = latencies.toSorted((a, b) => a - b);
        const { samples } = cutTimeline(logOf(latencies.map((ms) => [10, ms])), window);
        const rank = (p: number): number => sorted[Math.ceil((p / 100) * sorted.length) - 1];
        const sample = samples.find(({ at_ms }) => at_ms === 0)!;
        for (const [got, wanted] of [
          [sample.p50_ms, rank(50)],
          [sample.p99_ms, rank(99)],
        ])
          expect(Math.abs(got! - wanted!)).toBeLessThanOrEqual(wanted! * 0.002 + 0.001);
        expect(Math.abs(sample.max_ms! - sorted.at(-1)!)).toBeLessThanOrEqual(0.0005);
        expect(sample.p99_ms).toBeLessThanOrEqual(sample.max_ms!);
      }),
    );
  });

  it("is cut from any number of operations", () => {
    const log = new OperationLog();
    for (let i = 0; i < 100_000; i++) log.add(window.zero + i / 100, 0.01);
    expect(log.length).toBe(100_000);
    expect(cutTimeline(log, window).operations).toBe(100_000);
    log.clear();
    expect(cutTimeline(log, window).operations).toBe(0);
  });
});

describe("a window", () => {
  it.each([
    ["has nothing before the command", { before: 0, after: 3_000, interval: 250 }],
    ["would have the command in the middle of an interval", { before: 900, after: 3_000, interval: 250 }],
    ["ends in the middle of an interval", { before: 1_000, after: 3_100, interval: 250 }],
    ["has intervals of no length", { before: 1_000, after: 3_000, interval: 0 }],
  ])("is refused when it %s", (_, spans) => {
    expect(() => checkWindow(spans)).toThrow(expect.objectContaining({ code: "MWARP_E_USAGE" }));
    expect(() => checkWindow(window)).not.toThrow();
  });
});

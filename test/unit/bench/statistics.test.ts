import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { medianOf, medianRatio, type Series, slope, spread } from "../../../src/bench/statistics.js";

const series = (...values: readonly number[]): Series =>
  new Map(values.map((value, round) => [round, value]));
const times = fc.array(fc.double({ min: 0.1, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 12 });
/** Random numbers are the property's own: the same each time. */
const property = { seed: 5, numRuns: 20 };

describe("spread", () => {
  it("gives the quartiles of known values", () => {
    expect(spread([7])).toEqual({ runs: 1, median: 7, q1: 7, q3: 7 });
    expect(spread([4, 1, 3, 2])).toEqual({ runs: 4, median: 2.5, q1: 1.75, q3: 3.25 });
    expect(spread([9, 1, 8, 2, 7, 3, 6, 4, 5, 10])).toEqual({ runs: 10, median: 5.5, q1: 3.25, q3: 7.75 });
  });

  it("has nothing to say of no values", () => {
    expect(spread([])).toBeNull();
    expect(medianOf(new Map())).toBeNull();
  });

  it("does not depend on the order and keeps the median between the quartiles", () => {
    fc.assert(
      fc.property(times, (values) => {
        const result = spread(values)!;
        expect(spread(values.toReversed())).toEqual(result);
        expect(result.q1).toBeLessThanOrEqual(result.median);
        expect(result.median).toBeLessThanOrEqual(result.q3);
      }),
      property,
    );
  });
});

describe("the ratio of medians", () => {
  it("is that of known series, over the smallest median of the others", () => {
    expect(medianRatio(series(1, 2, 3), [series(4, 8, 12)])?.value).toBe(0.25);
    expect(medianRatio(series(1, 2, 3), [series(4, 8, 12), series(4, 4, 5)])?.value).toBe(0.5);
  });

  it("has an interval of no width when all values are the same", () => {
    expect(medianRatio(series(2, 2, 2, 2, 2, 2), [series(8, 8, 8, 8, 8, 8)])).toEqual({
      value: 0.25,
      low: 0.25,
      high: 0.25,
      runs: 6,
    });
  });

  it("takes only rounds that every series has", () => {
    const ratio = medianRatio(
      new Map([
        [0, 100],
        [1, 2],
        [2, 2],
      ]),
      [
        new Map([
          [1, 4],
          [2, 4],
          [3, 1],
        ]),
      ],
    );
    expect(ratio).toMatchObject({ value: 0.5, runs: 2 });
    expect(medianRatio(new Map([[0, 1]]), [new Map([[1, 1]])])).toBeNull();
  });

  it("does not tell an interval from fewer than six runs", () => {
    const [five, six] = [
      [1, 2, 3, 4, 5],
      [1, 2, 3, 4, 5, 6],
    ];
    expect(medianRatio(series(...five), [series(...five)])).toMatchObject({ low: null, high: null, runs: 5 });
    expect(medianRatio(series(...six), [series(...six)])).toMatchObject({ low: 1, high: 1, runs: 6 });
    expect(medianRatio(series(1), [series(2)])).toEqual({ value: 0.5, low: null, high: null, runs: 1 });
  });

  it("is nothing over a median that is not above 0", () => {
    expect(medianRatio(series(1, 1, 1), [series(0, 0, 5)])).toBeNull();
    expect(medianRatio(series(1, 1, 1), [series(-1, -1, 5)])).toBeNull();
  });

  it("lies in its interval, is the same again, and scales with the values", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 999 }), fc.integer({ min: 1, max: 999 })), {
          minLength: 6,
          maxLength: 10,
        }),
        (pairs) => {
          const [a, b] = [series(...pairs.map(([one]) => one)), series(...pairs.map(([, two]) => two))];
          const ratio = medianRatio(a, [b])!;
          expect(medianRatio(a, [b])).toEqual(ratio);
          expect(ratio.low!).toBeLessThanOrEqual(ratio.value);
          expect(ratio.value).toBeLessThanOrEqual(ratio.high!);
          const doubled = medianRatio(series(...pairs.map(([one]) => 2 * one)), [b])!;
          expect([doubled.value, doubled.low, doubled.high]).toEqual([
            2 * ratio.value,
            2 * ratio.low!,
            2 * ratio.high!,
          ]);
        },
      ),
      property,
    );
  });

  it("does not see what slows both series of a round alike", () => {
    const load = [1, 9, 2, 7, 3, 1, 8, 2, 5, 4];
    const ratio = medianRatio(series(...load), [series(...load.map((time) => 4 * time))]);
    expect(ratio).toMatchObject({ value: 0.25, low: 0.25, high: 0.25 });
  });

  it("covers the true ratio nearly as often as it says, with ten rounds", () => {
    // Uniform noise around 1 and around 4: the true ratio of the medians is 1/4.
    let state = 12345;
    const random = (): number => {
      state = (state * 1103515245 + 12345) % 2147483648;
      return state / 2147483648;
    };
    const noisy = (around: number): Series =>
      series(...Array.from({ length: 10 }, () => around * (0.8 + 0.4 * random())));
    const trials = Array.from({ length: 40 }, () => medianRatio(noisy(1), [noisy(4)])!);
    const covered = trials.filter(({ low, high }) => low! <= 0.25 && 0.25 <= high!).length;
    expect(covered).toBeGreaterThanOrEqual(35);
  });
});

describe("the slope", () => {
  it("is that of a line through its points", () => {
    expect(
      slope([
        [0, 5],
        [1, 7],
        [2, 9],
      ]),
    ).toBeCloseTo(2, 12);
    expect(
      slope([
        [0, 0],
        [1, 1],
        [2, 1],
      ]),
    ).toBeCloseTo(0.5, 12);
  });

  it("is none where there is only one size", () => {
    expect(slope([])).toBeNull();
    expect(
      slope([
        [3, 1],
        [3, 2],
      ]),
    ).toBeNull();
  });
});

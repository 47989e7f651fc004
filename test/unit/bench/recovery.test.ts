import { describe, expect, it } from "vitest";
import type { BenchRecord } from "../../../src/bench/records.js";
import { markdown } from "../../../src/bench/report/markdown.js";
import { recovery } from "../../../src/bench/report/window.js";
import { sortRecords } from "../../../src/bench/results.js";
import { client, report, run } from "./fixtures.js";

describe("the time until the rate is back", () => {
  // 10 an interval before the command; the downtime ends 470 ms after it.
  const before = Array.from({ length: 10 }, () => 10);
  const phases = { preflight: 100, dump: 300, warp: 50, resume: 20, retire: 30 };
  const back = (...after: readonly number[]): number | null =>
    recovery(
      client({
        samples: [...before, ...after].map((operations, index) => ({
          ...{ at_ms: (index - before.length) * 100, operations },
          ...{ p50_ms: null, p99_ms: null, max_ms: null },
        })),
        report: report({ phases, downtime: 370 }),
      }),
    );
  const ten = (count: number): number[] => Array.from({ length: count }, () => 10);

  it("begins at the end of the downtime, and an interval that it ends in does not count", () => {
    expect(back(...ten(30))).toBe(30);
    expect(back(10, 0, 0, 0, 0, 5, 8, ...ten(20))).toBe(230);
  });

  it("does not end with an interval that is good but alone", () => {
    expect(back(0, 0, 0, 0, 0, 14, 0, 5, 5, 5, ...ten(20))).toBe(530);
    // What was held back comes at once, and makes the second after it look better than it was.
    expect(back(0, 0, 0, 0, 0, 0, 20, ...ten(20))).toBe(130);
  });

  it("forgives an interval below 95 % where the second is above", () => {
    expect(back(0, 0, 0, 0, 0, 10, 9, 11, ...ten(20))).toBe(30);
  });

  it("is unknown when the window ends before, and when there was no rate", () => {
    expect(back(0, 0, 0, 0, 0, ...ten(9))).toBeNull();
    expect(back(...Array.from({ length: 30 }, () => 9))).toBeNull();
    expect(recovery(client({ report: report({ phases }) }))).toBeNull();
  });

  it("is in the table, with those that were not back", () => {
    const shot = (round: number, late: number): BenchRecord =>
      client({
        round,
        samples: [...before, ...Array.from({ length: 30 }, (_, at) => (at < late ? 0 : 10))].map(
          (operations, index) => ({
            ...{ at_ms: (index - before.length) * 100, operations },
            ...{ p50_ms: 1, p99_ms: 1, max_ms: 1 },
          }),
        ),
        report: report({ phases, downtime: 370 }),
      });
    const page = markdown(sortRecords([run(), shot(0, 10), shot(1, 10), shot(2, 29)]));
    expect(page).toContain("back at 95 % after");
    expect(page).toContain("| 530 ms (530–530 ms); 1 of 3 not in the window |");
  });
});

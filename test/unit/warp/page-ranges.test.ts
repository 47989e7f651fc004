import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { PageRun } from "../../../src/protocol/agent.js";
import { selectRuns, subtractRuns, toRuns, wantedPages } from "../../../src/warp/page-ranges.js";

const pagesOf = (runs: readonly PageRun[]): string[] =>
  runs.flatMap((run) => Array.from({ length: run.pages }, (_, index) => `${run.nsPid}:${run.page + index}`));

/** Disjoint runs of a few tasks, in any order. */
const runs = fc
  .uniqueArray(
    fc.record({
      nsPid: fc.integer({ min: 1, max: 3 }),
      slot: fc.nat(40),
      pages: fc.integer({ min: 1, max: 5 }),
    }),
    {
      selector: ({ nsPid, slot }) => `${nsPid}:${slot}`,
    },
  )
  .map((list) => list.map(({ nsPid, slot, pages }) => ({ nsPid, page: slot * 5, pages })));

describe("wanted pages", () => {
  it("are sorted by task and page, and runs that touch are joined", () => {
    const wanted = wantedPages([
      { nsPid: 7, page: 20, pages: 1 },
      { nsPid: 1, page: 12, pages: 3 },
      { nsPid: 1, page: 10, pages: 2 },
      { nsPid: 1, page: 99, pages: 1 },
    ]);
    expect(toRuns(wanted)).toEqual([
      { nsPid: 1, page: 10, pages: 5 },
      { nsPid: 1, page: 99, pages: 1 },
      { nsPid: 7, page: 20, pages: 1 },
    ]);
    expect(wanted.total).toBe(7);
  });

  it("keep every page, whatever the order of the runs", () => {
    fc.assert(
      fc.property(runs, (list) => {
        const wanted = wantedPages(list);
        expect(pagesOf(toRuns(wanted)).sort()).toEqual(pagesOf(list).sort());
      }),
    );
  });

  it.each([
    [
      "overlap",
      [
        { nsPid: 1, page: 10, pages: 5 },
        { nsPid: 1, page: 14, pages: 1 },
      ],
    ],
    ["are empty", [{ nsPid: 1, page: 10, pages: 0 }]],
    ["start below zero", [{ nsPid: 1, page: -1, pages: 2 }]],
    ["are no whole number", [{ nsPid: 1, page: 1.5, pages: 2 }]],
    ["leave user space", [{ nsPid: 1, page: 2 ** 44 - 1, pages: 2 }]],
    ["are more than the limit", [{ nsPid: 1, page: 0, pages: 2 ** 29 }]],
  ])("are refused when runs %s", (_name, list) => {
    expect(() => wantedPages(list)).toThrow(expect.objectContaining({ code: "MWARP_E_WARP" }));
  });

  it("can be selected by position, as runs that never join two runs", () => {
    const wanted = wantedPages([
      { nsPid: 1, page: 10, pages: 3 },
      { nsPid: 1, page: 20, pages: 2 },
    ]);
    expect(selectRuns(wanted, (position) => position !== 1)).toEqual([
      { nsPid: 1, page: 10, pages: 1 },
      { nsPid: 1, page: 12, pages: 1 },
      { nsPid: 1, page: 20, pages: 2 },
    ]);
  });

  it("lose just the pages that are subtracted", () => {
    fc.assert(
      fc.property(runs, runs, (list, without) => {
        const gone = new Set(pagesOf(without));
        const kept = pagesOf(toRuns(subtractRuns(wantedPages(list), without)));
        expect(kept.sort()).toEqual(
          pagesOf(list)
            .filter((page) => !gone.has(page))
            .sort(),
        );
      }),
    );
  });
});

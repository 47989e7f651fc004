import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { byteCount, gpa, hva } from "../../../src/units.js";
import { type Extents, ExtentsBuilder } from "../../../src/warp/extent-list.js";
import { buildExtents } from "../../../src/warp/extents.js";
import { mergeNeighbours } from "../../../src/warp/merge.js";
import { wantedPages } from "../../../src/warp/page-ranges.js";
import { RamMap } from "../../../src/warp/ram-map.js";
import { PageClass, type WarpTable } from "../../../src/warp/table.js";

const HUGE = 2 ** 21;
/** Frames of each of two regions; neighbours in the guest, far apart in the VMM. */
const REGION = 4096;

const ram = (hostPageBytes = 4096): RamMap =>
  new RamMap({
    regions: [
      { gpa: gpa(0), hva: hva(0x7f00_0000_0000), bytes: byteCount(REGION * 4096) },
      { gpa: gpa(REGION * 4096), hva: hva(0x7e00_0000_0000), bytes: byteCount(REGION * 4096) },
    ],
    bytes: byteCount(2 * REGION * 4096),
    hostPageBytes: byteCount(hostPageBytes),
  });

function extentsOf(rows: readonly (readonly [number, number, number])[]): Extents {
  const builder = new ExtentsBuilder(1);
  for (const row of rows) builder.push(...row);
  return builder.build();
}

const rowsOf = ({ count, sourceFrames, destinationFrames, pages }: Extents): number[][] =>
  Array.from({ length: count }, (_, index) => [
    sourceFrames[index]!,
    destinationFrames[index]!,
    pages[index]!,
  ]);

/** Which source frame goes to which destination frame; throws when a frame is met twice. */
function pairsOf(extents: Extents): Map<number, number> {
  const pairs = new Map<number, number>();
  for (const [from, to, pages] of rowsOf(extents))
    for (let page = 0; page < pages!; page++) {
      if (pairs.has(from! + page)) throw new Error(`frame ${from! + page} twice`);
      pairs.set(from! + page, to! + page);
    }
  return pairs;
}

/** Single pages and short runs of both regions, many of them neighbours, in any order. */
const shreds = fc
  .tuple(
    fc.integer({ min: REGION - 300, max: REGION - 1 }),
    fc.constantFrom(0, 0, 0, 7, 500),
    fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 80 }),
    fc.array(fc.nat(99), { minLength: 80, maxLength: 80 }),
  )
  .chain(([start, shift, lengths, breaks]) => {
    let [from, to] = [start, start + shift];
    const rows = lengths.map((pages, index) => {
      const row = [from, to, pages] as const;
      // A gap now and then, on one side or on both.
      const gap = breaks[index]!;
      from += pages + (gap < 10 || (gap >= 20 && gap < 30) ? 1 : 0);
      to += pages + (gap < 20 ? 1 : 0);
      return row;
    });
    // As the table would have cut them: none crosses a region.
    const whole = rows.filter(([a, b, n]) =>
      [a, b].every((frame) => Math.floor(frame / REGION) === Math.floor((frame + n - 1) / REGION)),
    );
    return fc.shuffledSubarray(whole, { minLength: whole.length, maxLength: whole.length });
  });

describe("neighbours", () => {
  it("are joined, whatever order they come in: the same pairs, no stranger's frame, and nothing left to join", () => {
    fc.assert(
      fc.property(shreds, (rows) => {
        const before = extentsOf(rows);
        const merged = mergeNeighbours(before, ram(), ram());
        expect(pairsOf(merged)).toEqual(pairsOf(before));
        expect(merged.totalPages).toBe(before.totalPages);
        const sorted = rowsOf(merged).sort((a, b) => a[0]! - b[0]!);
        for (const [index, [from, to, pages]] of sorted.entries()) {
          expect(ram().containsRun(from!, pages!) && ram().containsRun(to!, pages!)).toBe(true);
          const next = sorted[index + 1];
          const joins = next !== undefined && next[0] === from! + pages! && next[1] === to! + pages!;
          const border = next !== undefined && (next[0]! % REGION === 0 || next[1]! % REGION === 0);
          expect(joins && !border).toBe(false);
        }
      }),
      { numRuns: 300 },
    );
  });

  it("that the kernels handed out downwards become one extent", () => {
    const downwards = Array.from({ length: 100 }, (_, index) => [200 - index, 900 - index, 1] as const);
    expect(rowsOf(mergeNeighbours(extentsOf(downwards), ram(), ram()))).toEqual([[101, 801, 100]]);
  });

  it("are left alone where there are too many to sort inside a stun", () => {
    const extents = extentsOf(Array.from({ length: 40_000 }, () => [1, 1, 1] as const));
    expect(mergeNeighbours(extents, ram(), ram())).toBe(extents);
  });

  it("that share a huge page of the host are exchanged with it, though neither fills one", () => {
    // Two areas of the container, each with one half of huge page 2 of the source and of huge page 5 of the destination.
    const rows = [
      ...Array.from({ length: 256 }, (_, index) => [1024 + 256 + index, 2560 + 256 + index] as const),
      ...Array.from({ length: 256 }, (_, index) => [1024 + index, 2560 + index] as const),
    ];
    const table: WarpTable = {
      wanted: wantedPages([{ nsPid: 1, page: 0, pages: rows.length }]),
      sourceFrames: Uint32Array.from(rows, ([from]) => from),
      destinationFrames: Uint32Array.from(rows, ([, to]) => to),
      classes: new Uint8Array(rows.length).fill(PageClass.exchange),
      kinds: new Uint8Array(rows.length),
      source: ram(HUGE),
      destination: ram(HUGE),
      counts: { exchange: rows.length, copy: 0, shared: 0, missingSource: 0, missingDestination: 0 },
      missing: { source: [], destination: [] },
    };
    const { exchangeable, copyOnly } = buildExtents(table);
    expect(rowsOf(exchangeable)).toEqual([[1024, 2560, 512]]);
    expect(copyOnly.count).toBe(0);
    // One frame that is somebody else's too, and the whole huge page is copied.
    table.classes[300] = PageClass.copy;
    const withStranger = buildExtents(table);
    expect(withStranger.exchangeable.count).toBe(0);
    expect(withStranger.copyOnly.totalPages).toBe(512);
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { byteCount, gpa, HUGE_BYTES, hva, PAGE_BYTES, PAGES_PER_HUGE } from "../../../src/units.js";
import type { RamBacking } from "../../../src/vm/backing.js";
import type { BackedRam } from "../../../src/warp/backed-pieces.js";
import { cutAtHugePages, cutByBacking } from "../../../src/warp/candidates.js";
import { RamMap } from "../../../src/warp/ram-map.js";
import { extentsOf } from "./memory-holder.js";

const HUGE_PAGES = 8;
const FRAMES = HUGE_PAGES * PAGES_PER_HUGE;
const BASE = 0x7f00_0000_0000;

/** A VM of one region at `base`; each mapping is so many pages, from that page of a file on. */
function vm(base: number, mappings: readonly (readonly [pages: number, filePage: number])[]): BackedRam {
  let at = base;
  const starts = mappings.map(([pages]) => {
    const start = at;
    at += pages * PAGE_BYTES;
    return start;
  });
  const backing: RamBacking = {
    count: mappings.length,
    hva: Float64Array.from(starts),
    bytes: Float64Array.from(mappings, ([pages]) => pages * PAGE_BYTES),
    offset: Float64Array.from(mappings, ([, page]) => page * PAGE_BYTES),
    file: new Uint32Array(mappings.length),
    files: [{ major: 0, minor: 1, inode: 1, path: "/none" }],
    mappings: mappings.length,
  };
  const bytes = byteCount(FRAMES * PAGE_BYTES);
  const regions = [{ gpa: gpa(0), hva: hva(base), bytes }];
  return { ram: new RamMap({ regions, bytes, hostPageBytes: byteCount(PAGE_BYTES) }), backing };
}
const plain = vm(BASE, [[FRAMES, 0]]);

const rows = (extents: {
  count: number;
  sourceFrames: Uint32Array;
  destinationFrames: Uint32Array;
  pages: Uint32Array;
}) =>
  Array.from({ length: extents.count }, (_, index) => [
    extents.sourceFrames[index],
    extents.destinationFrames[index],
    extents.pages[index],
  ]);

describe("candidates on transparent huge pages", () => {
  it("are whole ones; head and tail are parts", () => {
    const { whole, parts } = cutAtHugePages(extentsOf([[500, 1012, 1200]]), plain, plain);
    expect(rows(whole)).toEqual([[512, 1024, 1024]]);
    expect(rows(parts)).toEqual([
      [500, 1012, 12],
      [1536, 2048, 164],
    ]);
    expect([...whole.newMappings]).toEqual([2]);
  });

  it("are none where frames lie differently within 2 MiB on the two sides", () => {
    const { whole, parts } = cutAtHugePages(extentsOf([[512, 1025, 1024]]), plain, plain);
    expect([whole.count, rows(parts)]).toEqual([0, [[512, 1025, 1024]]]);
  });

  it("are none in memory that lies across borders of 2 MiB, in the VMM or in its file", () => {
    for (const side of [
      vm(BASE + 8 * PAGE_BYTES, [[FRAMES, 0]]),
      vm(BASE, [[FRAMES, 8]]),
      // Both by as much: the kernel maps these as huge pages, but they can change places with no aligned ones.
      vm(BASE + 8 * PAGE_BYTES, [[FRAMES, 8]]),
    ]) {
      const extents = extentsOf([[0, 0, FRAMES]]);
      expect(cutAtHugePages(extents, side, plain).whole.count).toBe(0);
      expect(cutAtHugePages(extents, plain, side).whole.count).toBe(0);
    }
    const crooked = vm(BASE + 8 * PAGE_BYTES, [[FRAMES, 8]]);
    const { whole } = cutAtHugePages(extentsOf([[0, 0, FRAMES]]), crooked, crooked);
    expect(rows(whole)).toEqual([[504, 504, (HUGE_PAGES - 1) * PAGES_PER_HUGE]]);
  });

  it("are none where an earlier exchange put something else within the 2 MiB", () => {
    const patched = vm(BASE, [
      [PAGES_PER_HUGE + 100, 0],
      [1, 7000],
      [FRAMES - PAGES_PER_HUGE - 101, PAGES_PER_HUGE + 101],
    ]);
    const { whole, parts } = cutAtHugePages(extentsOf([[0, 0, 4 * PAGES_PER_HUGE]]), patched, plain);
    expect(rows(whole)).toEqual([
      [0, 0, 512],
      [1024, 1024, 1024],
    ]);
    expect(rows(parts)).toEqual([
      [512, 512, 100],
      [612, 612, 1],
      [613, 613, 411],
    ]);
    // The first begins where a mapping does, on both sides.
    expect([...whole.newMappings]).toEqual([1, 2]);
  });

  it("keep every page, and are all the whole ones there are, whatever was exchanged before", () => {
    const lengths = fc.array(fc.oneof(fc.constant(PAGES_PER_HUGE), fc.integer({ min: 1, max: 1500 })), {
      minLength: 1,
      maxLength: 20,
    });
    const side = fc
      .tuple(lengths, fc.array(fc.nat(3), { minLength: 20, maxLength: 20 }))
      .map(([parts, shifts]) => {
        const mappings: [number, number][] = [];
        let at = 0;
        for (const [index, pages] of [...parts, FRAMES].entries()) {
          const fit = Math.min(pages, FRAMES - at);
          // Mostly where it would lie of itself, in another huge page of the file.
          const shift = shifts[index % shifts.length];
          if (fit > 0) mappings.push([fit, at + (shift === 3 ? 5 : shift * PAGES_PER_HUGE)]);
          at += fit;
        }
        return vm(BASE, mappings);
      });
    const extent = fc.tuple(fc.nat(FRAMES / 2), fc.nat(FRAMES / 2), fc.integer({ min: 1, max: FRAMES / 2 }));
    fc.assert(
      fc.property(side, side, fc.array(extent, { maxLength: 5 }), (source, destination, wanted) => {
        const extents = extentsOf(wanted);
        const { whole, parts } = cutAtHugePages(extents, source, destination);
        expect(whole.totalPages + parts.totalPages).toBe(extents.totalPages);
        const pairs = (list: number[][]): string[] =>
          list.flatMap(([from, to, pages]) =>
            Array.from({ length: pages }, (_, page) => `${from + page}:${to + page}`),
          );
        expect([...pairs(rows(whole)), ...pairs(rows(parts))].sort()).toEqual(pairs(rows(extents)).sort());
        const isWhole = (from: number, to: number): boolean => {
          const { count, pages } = cutByBacking(extentsOf([[from, to, PAGES_PER_HUGE]]), source, destination);
          return count === 1 && pages[0] === PAGES_PER_HUGE && alike(source, from) && alike(destination, to);
        };
        for (const [from, to, pages] of rows(whole))
          for (let page = 0; page < pages; page += PAGES_PER_HUGE)
            expect(isWhole(from + page, to + page), `${from + page}`).toBe(true);
        for (const [from, to, pages] of rows(parts))
          for (let page = 0; page + PAGES_PER_HUGE <= pages; page++)
            expect(isWhole(from + page, to + page), `${from + page}`).toBe(false);
      }),
      { numRuns: 100 },
    );
  });
});

/** Whether the frame begins 2 MiB both in the VMM and in the file. */
function alike({ backing, ram }: BackedRam, frame: number): boolean {
  const address = ram.hvaOf(frame as Parameters<RamMap["hvaOf"]>[0]);
  const mapping = backing.hva.findLastIndex((start) => start <= address);
  const offset = backing.offset[mapping] + (address - backing.hva[mapping]);
  return address % HUGE_BYTES === 0 && offset % HUGE_BYTES === 0;
}

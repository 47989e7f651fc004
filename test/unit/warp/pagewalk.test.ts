import { describe, expect, it } from "vitest";
import { PAGE_BYTES } from "../../../src/units.js";
import { walkWanted } from "../../../src/warp/address-space-walk.js";
import { wantedPages } from "../../../src/warp/page-ranges.js";
import { Leaf, PageTableWalker, walkOutput } from "../../../src/warp/pagewalk.js";
import { RamMap } from "../../../src/warp/ram-map.js";
import { ANONYMOUS, BIT, FakeGuest } from "./fake-guest.js";
import { timed } from "./timing.js";

const PAGE = 0x7f12_3456_7000 / PAGE_BYTES;
const ALL = Leaf.present | Leaf.writable | Leaf.dirty | Leaf.accessed | Leaf.user | Leaf.first;

function walk(guest: FakeGuest, runs: { page: number; pages: number }[]) {
  const wanted = wantedPages(runs.map((run) => ({ nsPid: 1, ...run })));
  return walkWanted(guest.view, new RamMap(guest.layout), wanted);
}

/** An address space of its own with one page mapped, ready to be spoiled. */
function oneTask(levels: 4 | 5 = 4): { guest: FakeGuest; root: number } {
  const guest = new FakeGuest({ levels });
  return { guest, root: guest.task(1) };
}

describe.each([4, 5] as const)("a walk of %i levels", (levels) => {
  it("finds the frames of 4 KiB leaves and says what is not there", () => {
    const { guest, root } = oneTask(levels);
    guest.map(root, PAGE, 100);
    guest.map(root, PAGE + 2, 77, ANONYMOUS & ~BIT.writable & ~BIT.dirty);
    const { frames, flags } = walk(guest, [{ page: PAGE, pages: 3 }]);
    expect([...frames]).toEqual([100, 0, 77]);
    expect([...flags]).toEqual([ALL, 0, Leaf.present | Leaf.accessed | Leaf.user | Leaf.first]);
  });

  it("crosses from one table into the next at every level", () => {
    const { guest, root } = oneTask(levels);
    for (const span of [512, 512 ** 2, 512 ** 3]) {
      const border = span * 8;
      guest.map(root, border - 1, span % 5000);
      guest.map(root, border, (span % 5000) + 1);
      const { frames } = walk(guest, [{ page: border - 1, pages: 2 }]);
      expect([...frames]).toEqual([span % 5000, (span % 5000) + 1]);
    }
  });

  it("says of each stretch how long it is, under leaves of every size and under none", () => {
    const { guest, root } = oneTask(levels);
    const giant = 512 ** 2 * 3;
    const huge = 512 * 1000;
    guest.map(root, giant, 0, ANONYMOUS, 3);
    guest.map(root, huge, 1024, ANONYMOUS, 2);
    guest.map(root, huge + 512, 3000);
    const runs = [
      { page: huge + 3, pages: 2 },
      { page: huge + 100, pages: 415 },
      { page: giant + 100, pages: 1500 },
    ];
    const { frames, flags, stretches } = walk(guest, runs);
    const found: [length: number, leaf: number][] = [];
    for (let at = 0; at < frames.length; at += stretches[at]) {
      found.push([stretches[at], flags[at] & (Leaf.huge2M | Leaf.huge1G)]);
      for (let page = 1; page < stretches[at]; page++) {
        expect(flags[at + page]).toBe(flags[at] & ~Leaf.first);
        if ((flags[at] & Leaf.present) !== 0) expect(frames[at + page]).toBe(frames[at] + page);
      }
    }
    expect(found).toEqual([
      [2, Leaf.huge2M],
      [412, Leaf.huge2M],
      // One page of a table, and two that are not there.
      [1, 0],
      [1, 0],
      [1, 0],
      // In steps of 2 MiB.
      [412, Leaf.huge1G],
      [512, Leaf.huge1G],
      [512, Leaf.huge1G],
      [64, Leaf.huge1G],
    ]);
  });

  it("counts the leaf of a huge page once, also when two runs lie under it", () => {
    const { guest, root } = oneTask(levels);
    const page = 512 * 1000;
    guest.map(root, page, 1024, ANONYMOUS, 2);
    const { frames, flags } = walk(guest, [
      { page: page + 3, pages: 2 },
      { page: page + 100, pages: 1 },
    ]);
    expect([...frames]).toEqual([1027, 1028, 1124]);
    expect([...flags].map((value) => value & (Leaf.first | Leaf.huge2M))).toEqual([
      Leaf.first | Leaf.huge2M,
      Leaf.huge2M,
      Leaf.huge2M,
    ]);
  });

  it("reads each table once", () => {
    const { guest, root } = oneTask(levels);
    for (let page = 0; page < 1024; page++) guest.map(root, 512 * 64 + page, 1 + page);
    const before = guest.reads;
    const { tableReads } = walk(guest, [
      { page: 512 * 64, pages: 10 },
      { page: 512 * 64 + 20, pages: 1004 },
    ]);
    expect(tableReads).toBe(levels + 1);
    expect(guest.reads - before).toBe(levels + 1);
  });
});

/** Pages of a 1 GiB leaf. */
const GIANT = 512 ** 2;

describe.each([4, 5] as const)("a 1 GiB leaf under %i levels", (levels) => {
  // 2.5 GiB of RAM: one whole leaf from the second GiB on, and half of one from the third.
  const guest = new FakeGuest({ levels, megabytes: 2560 });
  const page = 7 * GIANT;

  it("gives its frames from end to end, counts as one leaf, and costs no table of its own", () => {
    const root = guest.task(1);
    guest.map(root, page, GIANT, ANONYMOUS, 3);
    const { frames, flags, tableReads } = walkOf(root, [
      { page, pages: 2 },
      { page: page + 700, pages: 1 },
      { page: page + 512 * 300 - 1, pages: 2 },
      { page: page + GIANT - 1, pages: 2 },
    ]);
    const last = GIANT - 1;
    expect([...frames]).toEqual(
      [0, 1, 700, 512 * 300 - 1, 512 * 300, last].map((at) => GIANT + at).concat(0),
    );
    const rest = (ALL & ~Leaf.first) | Leaf.huge1G;
    expect([...flags]).toEqual([rest | Leaf.first, rest, rest, rest, rest, rest, 0]);
    expect(tableReads).toBe(levels - 2);
  });

  it("has the rights that all levels grant, and its own dirty and accessed bits", () => {
    const root = guest.task(1);
    guest.map(root, page, GIANT, ANONYMOUS & ~BIT.dirty & ~BIT.accessed, 3);
    const top = guest.tableOf(root, page, 4);
    const index = Math.floor(page / 512 ** 3) % 512;
    const rights = (entry: bigint): number => {
      guest.setEntry(top, index, entry);
      const { flags } = walkOf(root, [{ page: page + 5, pages: 1 }]);
      return flags[0]! & ~(Leaf.present | Leaf.first | Leaf.huge1G);
    };
    const entry = guest.entryAt(top, index);
    expect(rights(entry)).toBe(Leaf.writable | Leaf.user);
    expect(rights(entry & ~BIT.writable)).toBe(Leaf.user);
    expect(rights(entry & ~BIT.user)).toBe(Leaf.writable);
  });

  it("is counted once for each of two neighbours, with PAT bits that are no part of the address", () => {
    const root = guest.task(1);
    guest.map(root, page, GIANT, ANONYMOUS | (1n << 12n), 3);
    guest.map(root, page + GIANT, 0, ANONYMOUS, 3);
    const { frames, flags } = walkOf(root, [{ page: page + GIANT - 2, pages: 4 }]);
    expect([...frames]).toEqual([2 * GIANT - 2, 2 * GIANT - 1, 0, 1]);
    expect([...flags].map((value) => value & Leaf.first)).toEqual([Leaf.first, 0, Leaf.first, 0]);
  });

  it("that runs out of RAM is there as far as there is RAM, and no further", () => {
    const root = guest.task(1);
    guest.map(root, page, 2 * GIANT, ANONYMOUS, 3);
    const { frames, flags } = walkOf(root, [{ page: page + GIANT / 2 - 1, pages: 2 }]);
    expect([...frames]).toEqual([2 * GIANT + GIANT / 2 - 1, 0]);
    expect([...flags].map((value) => value & Leaf.present)).toEqual([Leaf.present, 0]);
    guest.map(root, page, 3 * GIANT, ANONYMOUS, 3);
    expect([...walkOf(root, [{ page, pages: 1 }]).flags]).toEqual([0]);
  });

  it("above 2^44 is not there", () => {
    const root = guest.task(1);
    guest.map(root, page, 2 ** 33, ANONYMOUS, 3);
    expect([...walkOf(root, [{ page, pages: 1 }]).flags]).toEqual([0]);
  });

  /** Each test has an address space of its own. */
  function walkOf(rootGpa: number, runs: { page: number; pages: number }[]) {
    guest.roots.splice(0, guest.roots.length - 1);
    expect(guest.roots[0]!.rootGpa).toBe(rootGpa);
    return walk(guest, runs);
  }
});

describe("pages that are not there", () => {
  it.each([
    ["a PROT_NONE entry", (1n << 8n) | BIT.user | BIT.dirty | 0x64000n],
    ["a swap entry", 0x0fff_ffff_fff0_0000n],
    ["a leaf above all RAM", ANONYMOUS | (1n << 43n)],
    ["a leaf above 2^44", ANONYMOUS | (1n << 48n) | 0x64000n],
  ])("takes %s for not present", (_name, entry) => {
    const { guest, root } = oneTask();
    guest.setEntry(guest.tableOf(root, PAGE, 1), PAGE % 512, entry);
    expect([...walk(guest, [{ page: PAGE, pages: 1 }]).flags]).toEqual([0]);
  });

  it("takes a huge leaf that runs out of RAM for not present", () => {
    const { guest, root } = oneTask();
    guest.map(root, 0, 64 * 256, ANONYMOUS, 2);
    expect(walk(guest, [{ page: 0, pages: 512 }]).flags.every((flags) => flags === 0)).toBe(true);
  });

  it("leaves a right out when any level takes it away", () => {
    const { guest, root } = oneTask();
    guest.map(root, PAGE, 100);
    const directory = guest.tableOf(root, PAGE, 2);
    const index = Math.floor(PAGE / 512) % 512;
    guest.setEntry(directory, index, guest.entryAt(directory, index) & ~BIT.writable & ~BIT.user);
    const [flags] = walk(guest, [{ page: PAGE, pages: 1 }]).flags;
    expect(flags & (Leaf.present | Leaf.writable | Leaf.user)).toBe(Leaf.present);
  });
});

describe("a guest that lies", () => {
  it("ends on a root that points to itself", () => {
    const { guest, root } = oneTask();
    for (let index = 0; index < 512; index++)
      guest.setEntry(root / PAGE_BYTES, index, BigInt(root) | ANONYMOUS);
    // Bit 6 of a table entry is ignored; bit 7 is clear, so the root serves as a table of every level.
    const { frames, tableReads } = walk(guest, [{ page: 0, pages: 2048 }]);
    expect(new Set(frames)).toEqual(new Set([root / PAGE_BYTES]));
    expect(tableReads).toBe(7);
  });

  it.each([
    ["a table outside RAM", 2, BigInt(1 << 28) | ANONYMOUS],
    ["a table above 2^44", 2, (1n << 47n) | ANONYMOUS],
    ["a page-size bit at level 4", 4, ANONYMOUS | BIT.pageSize],
    ["a misaligned 2 MiB leaf", 2, ANONYMOUS | BIT.pageSize | 0x3000n],
    ["a misaligned 1 GiB leaf", 3, ANONYMOUS | BIT.pageSize | 0x20_0000n],
  ])("is refused for %s", (_name, level, entry) => {
    const { guest, root } = oneTask();
    guest.setEntry(guest.tableOf(root, PAGE, level), Math.floor(PAGE / 512 ** (level - 1)) % 512, entry);
    expect(() => walk(guest, [{ page: PAGE, pages: 1 }])).toThrow(/page tables are not usable/);
  });

  it("keeps bit 12 of a huge leaf out of the address", () => {
    const { guest, root } = oneTask();
    guest.map(root, 0, 512, ANONYMOUS | (1n << 12n), 2);
    expect(walk(guest, [{ page: 1, pages: 1 }]).frames[0]).toBe(513);
  });

  it.each([8, 4096 * 100_000, -4096])("is refused for a root at %i", (rootGpa) => {
    const guest = new FakeGuest();
    guest.roots.push({ nsPid: 1, pid: 1001, rootGpa, taskAddress: "0" });
    expect(() => walk(guest, [{ page: PAGE, pages: 1 }])).toThrow(/not usable/);
  });

  it("is refused when the tables read exceed the limit", () => {
    const { guest, root } = oneTask();
    for (let index = 0; index < 8; index++) guest.map(root, index * 512, 1 + index);
    const walker = new PageTableWalker(guest, new RamMap(guest.layout), 4, 6);
    walker.open(root);
    expect(() => walker.walk(0, 4096, walkOutput(4096), 0)).toThrow(/more than 6 page tables/);
  });

  it("is refused for pages of the kernel's half", () => {
    const { guest } = oneTask();
    expect(() => walk(guest, [{ page: 2 ** 35 - 1, pages: 2 }])).toThrow(/kernel/);
  });

  it("is refused when two tasks share one address space, whose leaves would count twice", () => {
    const { guest, root } = oneTask();
    guest.roots.push({ nsPid: 2, pid: 1002, rootGpa: root, taskAddress: "0" });
    const wanted = wantedPages([
      { nsPid: 1, page: PAGE, pages: 1 },
      { nsPid: 2, page: PAGE, pages: 1 },
    ]);
    expect(() => walkWanted(guest.view, new RamMap(guest.layout), wanted)).toThrow(
      /shares its address space/,
    );
  });

  it("is refused when a task has no root", () => {
    expect(() => walk(new FakeGuest(), [{ page: PAGE, pages: 1 }])).toThrow(/no page-table root/);
  });
});

describe("cost of a walk", () => {
  it("walks 262,144 scattered pages in a few tens of milliseconds", () => {
    const guest = new FakeGuest({ megabytes: 2048 });
    const root = guest.task(1);
    const pages = 262_144;
    for (let page = 0; page < pages; page += 512) {
      const table = guest.tableOf(root, page, 1);
      for (let slot = 0; slot < 512; slot++) {
        const frame = ((page + slot) * 7919) % 400_000;
        guest.setEntry(table, slot, BigInt(frame * PAGE_BYTES) | ANONYMOUS);
      }
    }
    const { cpuMs, text } = timed(() => walk(guest, [{ page: 0, pages }]));
    console.info(`walk of ${pages} pages: ${text} ms`);
    expect(cpuMs).toBeLessThan(100);
  });
});

import { describe, expect, it } from "vitest";
import { SourceKind } from "../../../src/warp/exclusivity.js";
import { wantedPages } from "../../../src/warp/page-ranges.js";
import { buildTable, isComplete, PageClass } from "../../../src/warp/table.js";
import { ANONYMOUS, BIT, FakeGuest } from "./fake-guest.js";
import { timed } from "./timing.js";

const PAGE = 0x5000;
const READ_ONLY = ANONYMOUS & ~BIT.writable & ~BIT.dirty;

/** A source and a destination with one task each; the destination's pages are all freshly written. */
function pair(pages: number, levels: 4 | 5 = 4) {
  const source = new FakeGuest({ levels });
  const destination = new FakeGuest({ levels });
  const from = source.task(1);
  const to = destination.task(1);
  for (let page = 0; page < pages; page++) destination.map(to, PAGE + page, 2000 + page);
  const build = () =>
    buildTable({
      source: source.sourceView,
      destination: destination.view,
      wanted: wantedPages([{ nsPid: 1, page: PAGE, pages }]),
    });
  return { source, destination, from, to, build };
}

/** Class and kind of a single page whose source leaf and struct page are as given. */
function verdictOf(prepare: (source: FakeGuest, root: number) => void): { class: number; kind: number } {
  const { source, from, build } = pair(1);
  prepare(source, from);
  const { classes, kinds } = build();
  return { class: classes[0], kind: kinds[0] };
}
const classOf = (prepare: Parameters<typeof verdictOf>[0]): number => verdictOf(prepare).class;

describe("a task that has changed since it was frozen", () => {
  it.each([
    ["killed: no mm any more", { mm: 0n }, /has ended/],
    ["gone, its task_struct another's", { pid: 4711 }, /not pid 1001/],
    ["with other page tables", { pgd: 0xffff_8880_0000_9000n }, /not where they were/],
    ["with an mm at no kernel address", { mm: 0x1000n }, /not mapped/],
  ] as const)("%s: nothing is exchanged, on whichever side it is", (_name, say, why) => {
    for (const side of ["source", "destination"] as const) {
      const made = pair(1);
      made.source.map(made.from, PAGE, 500, ANONYMOUS);
      made.source.setHead(500, 1);
      expect(isComplete(made.build())).toBe(true);
      made[side].setTask(1, say);
      expect(made.build).toThrow(why);
    }
  });
});

describe("a source frame", () => {
  it.each([4, 5] as const)("is exchanged when its only reference is its leaf (%i levels)", (levels) => {
    const { source, from, build } = pair(2, levels);
    for (const page of [0, 1]) {
      source.map(from, PAGE + page, 500 + page, READ_ONLY);
      source.setHead(500 + page, 1);
    }
    const table = build();
    expect(table.counts).toEqual({
      exchange: 2,
      copy: 0,
      shared: 0,
      missingSource: 0,
      missingDestination: 0,
    });
    expect([...table.sourceFrames]).toEqual([500, 501]);
    expect([...table.destinationFrames]).toEqual([2000, 2001]);
    expect(isComplete(table)).toBe(true);
  });

  it.each([
    ["someone else holds a reference", 2, "anonymous", "held"],
    ["its count says nobody holds it", 0, "anonymous", "held"],
    ["its count is negative", -1, "anonymous", "held"],
    ["it is a KSM page", 1, "ksm", "ksm"],
    ["it is the page cache's", 1, "file", "file"],
    ["it is being moved by its driver", 1, "movable", "unknown"],
    ["it is a zero page, whose count is one", 1, "none", "zero"],
  ] as const)("is copied when %s", (_name, references, mapping, kind) => {
    const verdict = verdictOf((source, root) => {
      source.map(root, PAGE, 500);
      source.setHead(500, references, mapping);
    });
    expect(verdict).toEqual({ class: PageClass.copy, kind: SourceKind[kind] });
  });

  it.each([
    ["one more leaf than references", 2, "held"],
    ["two more", 1, "held"],
    ["more references than are counted", 2 ** 29, "held"],
    ["the most references there can be", 2 ** 31 - 1, "held"],
    ["as many", 3, "exclusive"],
  ] as const)("with three leaves is judged by its count: %s", (_name, references, kind) => {
    const { source, from, build } = pair(3);
    for (let page = 0; page < 3; page++) source.map(from, PAGE + page, 500);
    source.setHead(500, references);
    expect([...build().kinds]).toEqual(Array(3).fill(SourceKind[kind]));
  });

  it.each([
    ["the file and a leaf", 2, "file", "exclusive"],
    ["somebody else, too", 3, "file", "file"],
    ["fewer than are known", 1, "file", "file"],
    ["nobody", 0, "file", "file"],
    ["a leaf, and it is anonymous", 1, "anonymous", "exclusive"],
    ["somebody else, and it is anonymous", 2, "anonymous", "held"],
  ] as const)("of an image file is judged by its count: held by %s", (_name, references, mapping, kind) => {
    const { source, destination, from } = pair(1);
    source.map(from, PAGE, 500);
    source.setHead(500, references, mapping);
    const { kinds } = buildTable({
      source: { ...source.sourceView, pagesOf: "imageFiles" },
      destination: destination.view,
      wanted: wantedPages([{ nsPid: 1, page: PAGE, pages: 1 }]),
    });
    expect([...kinds]).toEqual([SourceKind[kind]]);
  });

  it("of an image file is copied when it is a part of a larger folio, which the file holds once for each page", () => {
    const { source, destination, from } = pair(2);
    for (const page of [0, 1]) source.map(from, PAGE + page, 512 + page);
    source.setHead(512, 4, "file");
    source.setTail(513, 512);
    const { classes } = buildTable({
      source: { ...source.sourceView, pagesOf: "imageFiles" },
      destination: destination.view,
      wanted: wantedPages([{ nsPid: 1, page: PAGE, pages: 2 }]),
    });
    expect([...classes]).toEqual([PageClass.copy, PageClass.copy]);
  });

  it("is copied when it is the huge zero page", () => {
    const verdict = verdictOf((source, root) => {
      source.map(root, PAGE - (PAGE % 512), 1024, READ_ONLY, 2);
      source.setHugeFolio(1024, 1, "none");
    });
    expect(verdict).toEqual({ class: PageClass.copy, kind: SourceKind.hugeZero });
  });

  it("is copied when its struct page is not mapped in the kernel's tables", () => {
    const verdict = classOf((source, root) => {
      source.map(root, PAGE, 500);
      source.setHead(500, 1);
      const first = Number(BigInt.asUintN(48, source.vmemmapBase) >> 12n);
      const page = first + Math.floor((500 * 64) / 4096);
      source.setEntry(source.tableOf(source.kernelRootGpa, page, 1), page % 512, 0n);
    });
    expect(verdict).toBe(PageClass.copy);
  });

  it.each([
    ["before the array", -64n],
    ["between two struct pages", 24n],
    ["after the frame itself", 64n * 900n],
    ["in user space", -(2n ** 60n)],
  ])("is copied when its head is said to lie %s", (_name, distance) => {
    const verdict = classOf((source, root) => {
      source.map(root, PAGE, 500);
      source.setHead(500, 1);
      source.setTailWord(500, BigInt.asUintN(64, source.vmemmapBase + distance + 1n));
    });
    expect(verdict).toBe(PageClass.copy);
  });

  it("is not taken for a page of the task when it is the kernel's", () => {
    const verdict = classOf((source, root) => {
      source.map(root, PAGE, 500, ANONYMOUS & ~BIT.user);
      source.setHead(500, 1);
    });
    expect(verdict).toBe(PageClass.missing);
  });
});

describe("a large folio", () => {
  it("is exclusive with one reference for its one 2 MiB leaf, though only a part of it is wanted", () => {
    const { source, from, build } = pair(100);
    source.map(from, PAGE - (PAGE % 512), 1024, READ_ONLY, 2);
    source.setHugeFolio(1024, 1);
    expect(build().counts).toMatchObject({ exchange: 100, copy: 0 });
  });

  it("is exclusive when each of its 4 KiB leaves holds one reference and all are wanted", () => {
    const { source, from, build } = pair(300);
    source.setHugeFolio(1024, 300);
    for (let page = 0; page < 300; page++) source.map(from, PAGE + page, 1024 + page, READ_ONLY);
    expect(build().counts).toMatchObject({ exchange: 300, copy: 0 });
  });

  it.each([299, 301])("is copied when 300 leaves stand against %i references", (references) => {
    const { source, from, build } = pair(300);
    source.setHugeFolio(1024, references);
    for (let page = 0; page < 300; page++) source.map(from, PAGE + page, 1024 + page, READ_ONLY);
    expect(build().counts).toMatchObject({ exchange: 0, copy: 300 });
  });
});

describe.each([4, 5] as const)("a 1 GiB folio under %i levels", (levels) => {
  const GIANT = 512 ** 2;
  const page = 3 * GIANT;
  // In the second GiB; tables and struct pages lie above it.
  const head = GIANT;
  const last = page + GIANT - 1;

  /** Tasks 1 and 2 on both sides; the first three pages wanted of task 1 lie far apart, those of task 2 are `second`. */
  function table(prepare: (source: FakeGuest, roots: [number, number]) => void, second: number[] = []) {
    const source = new FakeGuest({ levels, megabytes: 2560 });
    const destination = new FakeGuest({ levels });
    const pages: [number, number][] = [
      ...[page, page + 1000, last].map((at): [number, number] => [1, at]),
      ...second.map((at): [number, number] => [2, at]),
    ];
    const to = [destination.task(1), destination.task(2)] as const;
    for (const [index, [nsPid, at]] of pages.entries()) destination.map(to[nsPid - 1]!, at, 2000 + index);
    prepare(source, [source.task(1), source.task(2)]);
    const wanted = wantedPages(pages.map(([nsPid, at]) => ({ nsPid, page: at, pages: 1 })));
    return buildTable({ source: source.sourceView, destination: destination.view, wanted });
  }

  it("is exclusive with one reference for its one leaf, and only its head is asked", () => {
    const { counts, sourceFrames } = table((source, [root]) => {
      source.map(root, page, head, READ_ONLY, 3);
      source.setHead(head, 1);
      // What the others say of themselves is of no account.
      source.setHead(head + 1000, 5, "ksm");
      source.setTailWord(2 * head - 1, 1n);
    });
    expect(counts).toMatchObject({ exchange: 3, copy: 0, shared: 0 });
    expect([...sourceFrames]).toEqual([head, head + 1000, 2 * head - 1]);
  });

  it.each([0, 2])("is copied when it has %i references", (references) => {
    const { counts, kinds } = table((source, [root]) => {
      source.map(root, page, head, READ_ONLY, 3);
      source.setHead(head, references);
    });
    expect(counts).toMatchObject({ exchange: 0, copy: 3 });
    expect(new Set(kinds)).toEqual(new Set([SourceKind.held]));
  });

  it("of two tasks is exchanged for one and copied for the other, once both its leaves are found", () => {
    const both = (references: number) =>
      table(
        (source, roots) => {
          for (const root of roots) source.map(root, page, head, READ_ONLY, 3);
          source.setHead(head, references);
        },
        [page + 1000, last - 1],
      ).counts;
    expect(both(2)).toMatchObject({ exchange: 4, shared: 1, copy: 0 });
    expect(both(3)).toMatchObject({ exchange: 0, shared: 0, copy: 5 });
  });

  it("has a 4 KiB leaf for one of its last frames, too: that counts beside the leaf of the whole", () => {
    const { classes } = table(
      (source, [one, two]) => {
        source.map(one, page, head, READ_ONLY, 3);
        source.map(two, 77, 2 * head - 1, READ_ONLY);
        source.setHead(head, 2);
        source.setTail(2 * head - 1, head);
      },
      [77],
    );
    expect([...classes]).toEqual([
      PageClass.exchange,
      PageClass.exchange,
      PageClass.exchange,
      PageClass.shared,
    ]);
  });

  it("is no larger than that: a frame beyond it is not taken for a part of it", () => {
    const { counts } = table((source, [root]) => {
      source.map(root, page, 2 * head, READ_ONLY);
      source.setTail(2 * head, head);
      source.setHead(head, 1);
    });
    expect(counts).toMatchObject({ exchange: 0, copy: 1, missingSource: 2 });
  });
});

describe("a frame shared by two tasks of the container", () => {
  function forked(references: number) {
    const source = new FakeGuest();
    const destination = new FakeGuest();
    for (const nsPid of [1, 2]) {
      const root = source.task(nsPid);
      source.map(root, PAGE, 500, READ_ONLY);
      destination.map(destination.task(nsPid), PAGE, 2000 + nsPid);
    }
    source.setHead(500, references);
    const wanted = wantedPages([1, 2].map((nsPid) => ({ nsPid, page: PAGE, pages: 1 })));
    return buildTable({ source: source.sourceView, destination: destination.view, wanted });
  }

  it("is exchanged for one and copied for the other", () => {
    const table = forked(2);
    expect([...table.classes]).toEqual([PageClass.exchange, PageClass.shared]);
    expect(table.counts).toMatchObject({ exchange: 1, shared: 1 });
  });

  it("is copied for both when a stranger maps it too", () => {
    expect([...forked(3).classes]).toEqual([PageClass.copy, PageClass.copy]);
  });
});

describe("missing pages", () => {
  it("are named as runs for each side, also when a page misses on both", () => {
    const { source, from, destination, to, build } = pair(6);
    for (const page of [0, 1, 4, 5]) {
      source.map(from, PAGE + page, 500 + page);
      source.setHead(500 + page, 1);
    }
    destination.map(to, PAGE + 3, 0, 0n);
    destination.map(to, PAGE + 4, 2004, ANONYMOUS & ~BIT.writable);
    destination.map(to, PAGE + 5, 2005, ANONYMOUS & ~BIT.dirty);
    const table = build();
    expect(table.missing).toEqual({
      source: [{ nsPid: 1, page: PAGE + 2, pages: 2 }],
      destination: [{ nsPid: 1, page: PAGE + 3, pages: 3 }],
    });
    expect(table.counts).toMatchObject({ exchange: 2, missingSource: 2, missingDestination: 3 });
    expect(isComplete(table)).toBe(false);
  });
});

describe("a destination frame", () => {
  it("that two pages claim ends the exchange, even when one of them would only be copied", () => {
    const { source, from, destination, to, build } = pair(2);
    source.map(from, PAGE, 500);
    source.map(from, PAGE + 1, 501);
    source.setHead(500, 1);
    destination.map(to, PAGE + 1, 2000);
    expect(build).toThrow(/destination frame 2000 is mapped by two/);
  });
});

describe("struct page facts", () => {
  it.each([
    ["a size that is no struct's", { bytes: 7 }],
    ["an offset beyond the struct", { refcountOffset: 64 }],
    ["an odd offset", { mappingOffset: 13 }],
    ["a base in user space", { vmemmapBase: "4096" }],
    ["a base that is no number", { vmemmapBase: "0xffffea0000000000" }],
  ])("are refused with %s", (_name, change) => {
    const { source, destination } = pair(1);
    const lying = { ...source.sourceView, structPage: { ...source.facts, ...change } };
    const wanted = wantedPages([{ nsPid: 1, page: PAGE, pages: 1 }]);
    expect(() => buildTable({ source: lying, destination: destination.view, wanted })).toThrow(/not usable/);
  });
});

describe("cost of a table", () => {
  it("stays well below a second for 1 GiB of scattered 4 KiB pages", () => {
    const pages = 262_144;
    const source = new FakeGuest({ megabytes: 2048 });
    const destination = new FakeGuest({ megabytes: 2048 });
    const from = source.task(1);
    const to = destination.task(1);
    for (let page = 0; page < pages; page++) {
      const frame = (page * 7919) % pages;
      source.setHead(frame, 1);
      for (const [guest, root] of [
        [source, from],
        [destination, to],
      ] as const) {
        if (page % 512 === 0) guest.map(root, page, frame);
        else guest.setEntry(guest.tableOf(root, page, 1), page % 512, BigInt(frame * 4096) | ANONYMOUS);
      }
    }
    const wanted = wantedPages([{ nsPid: 1, page: 0, pages }]);
    const views = { source: source.sourceView, destination: destination.view, wanted };
    const { cpuMs, text } = timed(() => {
      expect(buildTable(views).counts.exchange).toBe(pages);
    });
    console.info(`table of ${pages} pages: ${text} ms`);
    expect(cpuMs).toBeLessThan(500);
  });
});

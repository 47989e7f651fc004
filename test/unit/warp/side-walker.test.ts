/** Two threads make the same table as one, of any page tables; and one makes it alone when the other is of no use. */
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { MwarpError } from "../../../src/errors.js";
import { MIB, PAGE_BYTES, PAGES_PER_HUGE } from "../../../src/units.js";
import { type WantedPages, wantedPages } from "../../../src/warp/page-ranges.js";
import type { SourceView } from "../../../src/warp/physical-memory.js";
import { SideWalker } from "../../../src/warp/side-walker.js";
import { buildTable, type WarpTable } from "../../../src/warp/table.js";
import { TableRoom } from "../../../src/warp/table-room.js";
import { patience } from "../../support/long.js";
import { ANONYMOUS, BIT, FakeGuest } from "./fake-guest.js";
import { HeldGuest } from "./held-guest.js";

const MEGABYTES = 4;
const FRAMES = (MEGABYTES * MIB) / PAGE_BYTES;
/** Wanted regions of 2 MiB: more than the guest has frames, so that tables which are named again and again meet the bound. */
const REGIONS = 1200;
const FIRST_REGION = 512 * 3;

let source: HeldGuest;
let destination: HeldGuest;
let aside: SideWalker;
let ended = "";
let answered = 0;
/** So small a table is made before a thread wakes up: this one is given the time to, ms. */
let patienceMs = 2;
const patient: Pick<SideWalker, "begin"> = {
  begin: (guest, wanted) => {
    const result = aside.begin(guest, wanted);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, patienceMs);
    return () => {
      const walk = result();
      if (walk !== null) answered++;
      return walk;
    };
  },
};
/** Nothing of one table may be left in the next. */
const room = new TableRoom();

beforeAll(async () => {
  source = await HeldGuest.start(MEGABYTES * MIB);
  destination = await HeldGuest.start(MEGABYTES * MIB);
  aside = sideWalkerOf(destination);
  // A thread does not come up while the one that started it never rests.
  const wanted = wantedPages([]);
  const { view } = build({ levels: 4, pages: [], huge: [], lies: [] });
  await vi.waitUntil(() => patient.begin(view, wanted)() !== null, { timeout: 5000 });
});

afterEach(async () => {
  // Whatever a guest says, the thread lives on. That it has not is heard of when this one rests.
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(ended).toBe("");
});

afterAll(async () => {
  aside.close();
  await source[Symbol.asyncDispose]();
  await destination[Symbol.asyncDispose]();
});

const sideWalkerOf = (
  { pid, layout }: Pick<HeldGuest, "pid" | "layout">,
  onEnd = (reason: string): void => {
    ended = reason;
  },
): SideWalker => new SideWalker({ pid, layout }, onEnd);

interface Made {
  readonly table: WarpTable | null;
  readonly error: string;
}

/** All that is said of a table, so that two can be compared. */
function made(options: Parameters<typeof buildTable>[0]): Made {
  try {
    const table = buildTable(options);
    // Where a table is made in a room it is overwritten by the next.
    const [sourceFrames, destinationFrames] = [table.sourceFrames, table.destinationFrames].map((frames) =>
      Uint32Array.from(frames),
    );
    const [classes, kinds] = [table.classes, table.kinds].map((all) => Uint8Array.from(all));
    return { table: { ...table, sourceFrames, destinationFrames, classes, kinds }, error: "" };
  } catch (error) {
    if (!(error instanceof MwarpError)) throw error;
    return { table: null, error: error.message };
  }
}

/** What one thread makes of it in fresh memory, which two must make of it where another table was before. */
function expectSame(views: { source: SourceView; destination: SourceView; wanted: WantedPages }): Made {
  const alone = made(views);
  const before = answered;
  for (;;) {
    expect(made({ ...views, room, aside: patient })).toEqual(alone);
    // A table is what its walk was good for: it must come from there, however busy this machine is.
    if (alone.table === null || answered > before) break;
    patienceMs *= 2;
    expect(patienceMs).toBeLessThan(1000);
  }
  return alone;
}

/** An entry of a table, as no kernel would write it. */
const lie = fc.record({
  level: fc.integer({ min: 1, max: 4 }),
  region: fc.integer({ min: 0, max: 3 }),
  entry: fc.oneof(
    // Into its own tables, or past the end of RAM; with any flags, and a bit of the reserved ones.
    fc
      .tuple(fc.integer({ min: 0, max: FRAMES + 40 }), fc.integer({ min: 0, max: 0xfff }))
      .map(([frame, flags]) => (BigInt(frame) << 12n) | BigInt(flags)),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  ),
});
const pageOf = fc.record({
  region: fc.integer({ min: 0, max: 3 }),
  slot: fc.integer({ min: 0, max: PAGES_PER_HUGE - 1 }),
  frame: fc.integer({ min: 0, max: 300 }),
  flags: fc.constantFrom(ANONYMOUS, ANONYMOUS, ANONYMOUS, ANONYMOUS & ~BIT.dirty, 0n),
});
const hugeOf = fc.record({
  region: fc.integer({ min: 0, max: 3 }),
  flags: fc.constantFrom(ANONYMOUS, ANONYMOUS & ~BIT.writable),
});
const guestOf = fc.record({
  levels: fc.constant(4 as const),
  pages: fc.oneof(
    { weight: 4, arbitrary: fc.uniqueArray(pageOf, { maxLength: 200, selector: ({ frame }) => frame }) },
    { weight: 1, arbitrary: fc.array(pageOf, { maxLength: 200 }) },
  ),
  huge: fc.array(hugeOf, { maxLength: 1 }),
  lies: fc.oneof(
    { weight: 2, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.array(lie, { maxLength: 3 }) },
  ),
});

function build({ pages, huge, lies }: typeof guestOf extends fc.Arbitrary<infer T> ? T : never): FakeGuest {
  const guest = new FakeGuest({ megabytes: MEGABYTES });
  const root = guest.task(1);
  for (const { region, slot, frame, flags } of pages) {
    guest.map(root, (FIRST_REGION + region) * PAGES_PER_HUGE + slot, frame, flags);
    guest.setHead(frame, 1 + (frame % 2));
  }
  for (const { region, flags } of huge)
    guest.map(root, (FIRST_REGION + region) * PAGES_PER_HUGE, 512, flags, 2);
  for (const { level, region, entry } of lies) {
    const page = (FIRST_REGION + region) * PAGES_PER_HUGE;
    try {
      guest.setEntry(guest.tableOf(root, page, level), Math.floor(page / 512 ** (level - 1)) % 512, entry);
    } catch (error) {
      // An earlier lie has made a table of what is none.
      if (!(error instanceof RangeError)) throw error;
    }
  }
  return guest;
}

const runsOf = fc
  .array(fc.tuple(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 1, max: 600 })), {
    minLength: 1,
    maxLength: 5,
  })
  .map((pieces) => {
    let page = FIRST_REGION * PAGES_PER_HUGE;
    return wantedPages(
      pieces.map(([skip, pages]) => {
        const run = { nsPid: 1, page: page + skip, pages };
        page += skip + pages;
        return run;
      }),
    );
  });

describe("two threads", () => {
  it(
    "make of any page tables what one makes of them, and of lies the same error",
    () => {
      const seen = new Set<string>();
      fc.assert(
        fc.property(guestOf, guestOf, runsOf, (from, to, wanted) => {
          const views = {
            source: source.take(build(from)),
            destination: destination.take(build(to)),
            wanted,
          };
          const { table, error } = expectSame(views);
          seen.add(table === null ? error.replace(/\d+/g, "N") : "a table");
        }),
        { numRuns: 80, endOnFailure: true },
      );
      // The generator must not miss what this is about.
      expect([...seen].join("\n")).toMatch(/a table/);
      expect([...seen].join("\n")).toMatch(/outside RAM|reserved/);
      expect(answered).toBeGreaterThan(10);
    },
    patience,
  );

  it("end at the bound of work of either guest where its tables go round in circles", () => {
    // Every region's table is the same one, which counts anew each time that it is read.
    const honest = (): FakeGuest => build({ levels: 4, pages: [], huge: [], lies: [] });
    const liar = (): FakeGuest => {
      const guest = honest();
      const root = guest.roots[0]!.rootGpa;
      const first = FIRST_REGION * PAGES_PER_HUGE;
      const leaves = guest.tableOf(root, first, 1);
      const entry = (BigInt(leaves) << 12n) | ANONYMOUS;
      for (let region = 0; region < REGIONS; region++)
        guest.setEntry(guest.tableOf(root, first + region * PAGES_PER_HUGE, 2), region % 512, entry);
      return guest;
    };
    const wanted = wantedPages(
      Array.from({ length: REGIONS }, (_, at) => ({
        nsPid: 1,
        page: (FIRST_REGION + at) * PAGES_PER_HUGE,
        pages: 1,
      })),
    );
    for (const [from, to] of [
      [liar(), honest()],
      [honest(), liar()],
    ]) {
      const views = { source: source.take(from!), destination: destination.take(to!), wanted };
      expect(expectSame(views).error).toMatch(new RegExp(`more than ${FRAMES} page tables`));
    }
  });

  it("find two pages that claim one frame of the destination", () => {
    const guest = build({ levels: 4, pages: [], huge: [], lies: [] });
    const root = guest.roots[0]!.rootGpa;
    const page = FIRST_REGION * PAGES_PER_HUGE;
    for (const at of [0, 1]) guest.map(root, page + at, 77);
    const views = {
      source: source.take(build({ levels: 4, pages: [], huge: [], lies: [] })),
      destination: destination.take(guest),
      wanted: wantedPages([{ nsPid: 1, page, pages: 2 }]),
    };
    expect(expectSame(views).error).toMatch(/frame 77 is mapped by two/);
  });
});

describe("a thread that is of no use", () => {
  const views = () => {
    const page = FIRST_REGION * PAGES_PER_HUGE;
    const mapped = { region: 0, slot: 0, frame: 7, flags: ANONYMOUS };
    const guest = (): FakeGuest => build({ levels: 4, pages: [mapped], huge: [], lies: [] });
    const wanted = wantedPages([{ nsPid: 1, page, pages: 1 }]);
    return { source: source.take(guest()), destination: destination.take(guest()), wanted };
  };

  it("is not waited for: before it has begun its walk is taken back", () => {
    using late = disposable(sideWalkerOf(destination));
    expect(buildTable({ ...views(), aside: late.walker }).destinationFrames).toEqual(Uint32Array.of(7));
  });

  it("and has ended, as it could not open the VMM's memory, is asked no more", async () => {
    const nobody = { pid: 2 ** 22 + 1, layout: destination.layout };
    let why = "";
    const dead = sideWalkerOf(nobody, (reason) => {
      why = reason;
    });
    await vi.waitUntil(() => why !== "", { timeout: 5000 });
    expect(why).toMatch(/cannot open the memory/);
    expect(buildTable({ ...views(), aside: dead }).destinationFrames).toEqual(Uint32Array.of(7));
  });
});

const disposable = (walker: SideWalker) => ({ walker, [Symbol.dispose]: () => walker.close() });

/** Pages under huge leaves are classified together: by the same rules, and with the same results, as page by page. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { PAGES_PER_HUGE } from "../../../src/units.js";
import { walkWanted } from "../../../src/warp/address-space-walk.js";
import { SourceKind } from "../../../src/warp/exclusivity.js";
import { wantedPages } from "../../../src/warp/page-ranges.js";
import { Leaf } from "../../../src/warp/pagewalk.js";
import { RamMap } from "../../../src/warp/ram-map.js";
import { buildTable, PageClass } from "../../../src/warp/table.js";
import { patience } from "../../support/long.js";
import { ANONYMOUS, BIT, FakeGuest } from "./fake-guest.js";

const REGIONS = 4;
const FIRST_REGION = 64;
const READ_ONLY = ANONYMOUS & ~BIT.writable & ~BIT.dirty;

/** What lies in 2 MiB of the source's address space. Folios are numbered: two regions may map the same one. */
type SourceRegion =
  | { readonly kind: "huge"; readonly folio: number; readonly extra: number }
  | { readonly kind: "small"; readonly every: number }
  | { readonly kind: "nothing" };
type DestinationRegion = "huge" | "small" | "read-only" | "nothing";

const sourceRegion: fc.Arbitrary<SourceRegion> = fc.oneof(
  fc.record({
    kind: fc.constant("huge" as const),
    folio: fc.integer({ min: 0, max: 2 }),
    extra: fc.constantFrom(0, 0, 0, 1),
  }),
  fc.record({ kind: fc.constant("small" as const), every: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ kind: fc.constant("nothing" as const) }),
);
const destinationRegion = fc.constantFrom<DestinationRegion>(
  "huge",
  "huge",
  "small",
  "small",
  "read-only",
  "nothing",
);
const wanted = fc
  .array(fc.tuple(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 1, max: 700 })), {
    minLength: 1,
    maxLength: 6,
  })
  .map((pieces) => {
    const runs: { nsPid: number; page: number; pages: number }[] = [];
    let page = FIRST_REGION * PAGES_PER_HUGE;
    const end = page + REGIONS * PAGES_PER_HUGE;
    for (const [skip, length] of pieces) {
      page += skip + 1;
      const pages = Math.min(length, end - page);
      if (pages > 0) runs.push({ nsPid: 1, page, pages });
      page += length;
    }
    return wantedPages(runs);
  });

function sourceOf(regions: readonly SourceRegion[]): FakeGuest {
  const guest = new FakeGuest({ megabytes: 32 });
  const root = guest.task(1);
  const mappings = [0, 0, 0];
  for (const region of regions) if (region.kind === "huge") mappings[region.folio]++;
  for (const [at, region] of regions.entries()) {
    const page = (FIRST_REGION + at) * PAGES_PER_HUGE;
    if (region.kind === "huge") {
      const head = (1 + region.folio) * PAGES_PER_HUGE;
      guest.map(root, page, head, READ_ONLY, 2);
      guest.setHugeFolio(head, mappings[region.folio] + region.extra);
    }
    if (region.kind === "small")
      for (let offset = 0; offset < PAGES_PER_HUGE; offset += region.every) {
        const frame = (4 + at) * PAGES_PER_HUGE + ((offset * 7) % PAGES_PER_HUGE);
        guest.map(root, page + offset, frame, READ_ONLY);
        guest.setHead(frame, offset % 5 === 0 ? 2 : 1);
      }
  }
  return guest;
}

function destinationOf(regions: readonly DestinationRegion[]): FakeGuest {
  const guest = new FakeGuest({ megabytes: 32 });
  const root = guest.task(1);
  for (const [at, region] of regions.entries()) {
    const page = (FIRST_REGION + at) * PAGES_PER_HUGE;
    const frame = (1 + at) * PAGES_PER_HUGE;
    if (region === "huge" || region === "read-only")
      guest.map(root, page, frame, region === "huge" ? ANONYMOUS : READ_ONLY, 2);
    if (region === "small")
      for (let offset = 0; offset < PAGES_PER_HUGE; offset++)
        guest.map(root, page + offset, frame + ((offset * 11) % PAGES_PER_HUGE));
  }
  return guest;
}

it(
  "what is said of many pages at once is true of each",
  () => {
    const layout = fc.tuple(
      fc.array(sourceRegion, { minLength: REGIONS, maxLength: REGIONS }),
      fc.array(destinationRegion, { minLength: REGIONS, maxLength: REGIONS }),
      wanted,
    );
    fc.assert(
      fc.property(layout, ([sourceRegions, destinationRegions, pages]) => {
        const source = sourceOf(sourceRegions);
        const destination = destinationOf(destinationRegions);
        const table = buildTable({ source: source.sourceView, destination: destination.view, wanted: pages });
        const from = walkWanted(source.view, new RamMap(source.layout), pages);
        const to = walkWanted(destination.view, new RamMap(destination.layout), pages);

        const exchanged = new Set<number>();
        const counts = { exchange: 0, copy: 0, shared: 0, missingSource: 0, missingDestination: 0 };
        for (let position = 0; position < pages.total; position++) {
          const present = (from.flags[position] & Leaf.present) !== 0;
          const written = (to.flags[position] & Leaf.dirty) !== 0;
          if (!present) counts.missingSource++;
          if (!written) counts.missingDestination++;
          let expected: number = PageClass.missing;
          if (present && written) {
            const frame = from.frames[position];
            if (table.kinds[position] !== SourceKind.exclusive) expected = PageClass.copy;
            else expected = exchanged.has(frame) ? PageClass.shared : PageClass.exchange;
            exchanged.add(frame);
            if (expected === PageClass.copy) counts.copy++;
            else if (expected === PageClass.shared) counts.shared++;
            else counts.exchange++;
          }
          if (table.classes[position] !== expected)
            expect([position, table.classes[position]]).toEqual([position, expected]);
        }
        expect(table.counts).toEqual(counts);

        // Each folio's references are its leaves, and one more where something else holds it.
        const leaves = new Map<number, Set<number>>();
        let position = 0;
        const places: number[] = [];
        for (const { startPage, pages: lengths } of pages.tasks)
          for (const [run, length] of lengths.entries())
            for (let page = 0; page < length; page++) places.push(startPage[run] + page);
        for (const page of places) {
          const at = Math.floor(page / PAGES_PER_HUGE) - FIRST_REGION;
          const region = sourceRegions[at]!;
          if (region.kind === "huge")
            leaves.set(region.folio, (leaves.get(region.folio) ?? new Set()).add(at));
        }
        for (const page of places) {
          const at = Math.floor(page / PAGES_PER_HUGE) - FIRST_REGION;
          const region = sourceRegions[at]!;
          const kind = table.kinds[position++];
          if (region.kind === "nothing") expect(kind).toBe(SourceKind.unknown);
          if (region.kind !== "huge") continue;
          const last = sourceRegions.findLast((one) => one.kind === "huge" && one.folio === region.folio);
          const mapped = sourceRegions.filter((one) => one.kind === "huge" && one.folio === region.folio);
          const references = mapped.length + (last?.kind === "huge" ? last.extra : 0);
          const mine = references === leaves.get(region.folio)!.size;
          if (kind !== (mine ? SourceKind.exclusive : SourceKind.held))
            expect([page, kind]).toEqual([page, mine ? SourceKind.exclusive : SourceKind.held]);
        }
      }),
      { numRuns: 60 },
    );
  },
  patience,
);

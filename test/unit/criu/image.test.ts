import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PagemapEntrySchema } from "../../../src/criu/gen/pagemap_pb.js";
import { CoreEntrySchema, InventoryEntrySchema, MmEntrySchema } from "../../../src/criu/gen/task_pb.js";
import { decodeImage, decodeRecord, decodeSingle, encodeImage } from "../../../src/criu/image.js";
import { decodePagemap, presentRecord } from "../../../src/criu/pagemap.js";
import { decodePagemapEntry } from "../../../src/criu/pagemap-entry.js";
import { rewriteSkeleton } from "../../../src/criu/skeleton.js";
import { isMwarpError } from "../../../src/errors.js";
import { runs } from "../../support/long.js";
import { dump, pagemapImage, readFromTask } from "./images.js";

/** What `work` throws must be an image error; null when it throws nothing. */
function imageErrorOf(work: () => unknown): string | null {
  try {
    work();
    return null;
  } catch (error) {
    expect(isMwarpError(error, "MWARP_E_IMAGE")).toBe(true);
    return (error as Error).message;
  }
}

describe("image files", () => {
  it("come out of the codec as they went in", () => {
    fc.assert(
      fc.property(
        fc.constantFrom("inventory", "pagemap", "core"),
        fc.array(fc.uint8Array()),
        (kind, records) => {
          expect(decodeImage("x.img", kind, encodeImage(kind, records))).toEqual(records);
        },
      ),
    );
  });

  it("start with the magic numbers of their kind, the inventory with its own alone", () => {
    expect(Buffer.from(encodeImage("pagemap", [])).toString("hex")).toBe("1943565425400856");
    expect(Buffer.from(encodeImage("inventory", [])).toString("hex")).toBe("16313158");
    expect(imageErrorOf(() => decodeImage("mm-1.img", "mm", encodeImage("core", [])))).toBe(
      "mm-1.img: not a CRIU mm image (wrong magic)",
    );
  });

  it("are refused when cut off anywhere but between records", () => {
    const bytes = encodeImage("core", [new Uint8Array(5), new Uint8Array(0), new Uint8Array(9)]);
    const whole = new Set([8, 17, 21, bytes.length]);
    for (let length = 0; length < bytes.length; length++) {
      expect(imageErrorOf(() => decodeImage("x", "core", bytes.subarray(0, length))) === null).toBe(
        whole.has(length),
      );
    }
  });

  it("of garbage give MWARP_E_IMAGE or a value, and nothing else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (garbage, framed) => {
        const bytes = framed ? encodeImage("pagemap", [garbage, garbage]) : garbage;
        imageErrorOf(() => decodePagemap("pagemap-1.img", bytes));
        for (const schema of [CoreEntrySchema, MmEntrySchema, InventoryEntrySchema]) {
          imageErrorOf(() => decodeRecord("x", schema, garbage));
        }
      }),
      { numRuns: runs(2000) },
    );
  });

  it("that nest groups without end are refused, not recursed into", () => {
    expect(
      imageErrorOf(() => decodeRecord("x", CoreEntrySchema, new Uint8Array(1 << 20).fill((99 << 3) | 3))),
    ).not.toBeNull();
  });

  it("of one record are refused with none or two", () => {
    const record = toBinary(MmEntrySchema, create(MmEntrySchema));
    expect(decodeSingle("mm", "mm", MmEntrySchema, encodeImage("mm", [record])).vmas).toEqual([]);
    expect(imageErrorOf(() => decodeSingle("mm", "mm", MmEntrySchema, encodeImage("mm", [])))).toBe(
      "mm: 0 records instead of one",
    );
    expect(
      imageErrorOf(() => decodeSingle("mm", "mm", MmEntrySchema, encodeImage("mm", [record, record]))),
    ).toBe("mm: 2 records instead of one");
  });

  it("keep fields that mWarp does not know", () => {
    const unknown = Uint8Array.from([
      ...toBinary(InventoryEntrySchema, create(InventoryEntrySchema, { imgVersion: 2 })),
      0x6a,
      2,
      65,
      66,
    ]);
    expect(toBinary(InventoryEntrySchema, decodeRecord("inventory", InventoryEntrySchema, unknown))).toEqual(
      unknown,
    );
  });
});

describe("pagemap entries", () => {
  const decode = (init: Parameters<typeof create<typeof PagemapEntrySchema>>[1]) =>
    decodePagemap(
      "p",
      encodeImage("pagemap", [
        Uint8Array.from([8, 1]),
        toBinary(PagemapEntrySchema, create(PagemapEntrySchema, init)),
      ]),
    ).runs[0]!;

  it("are read from images of CRIU 4.1, 4.2 and before flags existed", () => {
    expect(decode({ vaddr: 0x5000n, compatNrPages: 3, flags: 1 })).toMatchObject({
      page: 5,
      pages: 3,
      present: false,
    });
    expect(decode({ vaddr: 0x5000n, compatNrPages: 0, flags: 6, nrPages: 3n })).toMatchObject({
      page: 5,
      pages: 3,
      present: true,
    });
    expect(decode({ vaddr: 0x5000n, compatNrPages: 3 })).toMatchObject({ present: true });
    expect(decode({ vaddr: 0x5000n, compatNrPages: 3, inParent: true })).toMatchObject({ present: false });
  });

  it("written by mWarp count their pages for CRIU 4.1 and for 4.2", () => {
    const entry = decodeRecord("p", PagemapEntrySchema, presentRecord(0x7fff_ffff_e, 3));
    expect(entry).toMatchObject({ vaddr: 0x7fff_ffff_e000n, compatNrPages: 3, nrPages: 3n, flags: 4 });
  });

  it("are decoded as the general decoder does it, with unknown fields between", () => {
    const optional = <T>(values: fc.Arbitrary<T>) => fc.option(values, { nil: undefined });
    const uint32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
    const known = fc.record({
      vaddr: fc.bigInt({ min: 0n, max: 2n ** 53n - 1n }),
      compatNrPages: optional(uint32),
      inParent: optional(fc.boolean()),
      flags: optional(uint32),
      nrPages: optional(fc.bigInt({ min: 0n, max: 2n ** 53n - 1n })),
    });
    // Fields 6 to 9 of each wire type that is in use.
    const unknown = fc.constantFrom(
      [48, 200, 1],
      [58, 2, 8, 8],
      [69, 1, 2, 3, 4],
      [73, 1, 2, 3, 4, 5, 6, 7, 8],
    );
    fc.assert(
      fc.property(known, unknown, fc.boolean(), (fields, extra, before) => {
        const defined = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
        const entry = toBinary(PagemapEntrySchema, create(PagemapEntrySchema, defined));
        const record = Uint8Array.from(before ? [...extra, ...entry] : [...entry, ...extra]);
        expect(decodePagemapEntry("p", record, { start: 0, end: record.length })).toEqual({
          vaddr: Number(fields.vaddr),
          compatPages: fields.compatNrPages,
          inParent: fields.inParent === undefined ? undefined : Number(fields.inParent),
          flags: fields.flags,
          pages: fields.nrPages === undefined ? undefined : Number(fields.nrPages),
        });
      }),
    );
  });

  it("stay as they came, unknown fields and all", async () => {
    const files = dump([{ pid: 1, mappings: [{ page: 5, pages: 1, kind: "vdso" }], entries: [] }]);
    const record = [8, 0x80, 0xa0, 1, 16, 1, 32, 4, 58, 2, 65, 66];
    const pagemap = encodeImage("pagemap", [Uint8Array.from([8, 1]), Uint8Array.from(record)]);
    files.set("pagemap-1.img", pagemap).set("pages-1.img", new Uint8Array(4096));
    const rewritten = await rewriteSkeleton(files, readFromTask);
    expect(rewritten.files.get("pagemap-1.img")).toEqual(pagemap);
  });

  it("that are not page-aligned or beyond user space are refused", () => {
    const at = (vaddr: bigint) => imageErrorOf(() => decode({ vaddr, compatNrPages: 1, flags: 1 }));
    expect(at(0x5001n)).toContain("is not the address of a user page");
    expect(at(1n << 60n)).toContain("goes beyond user space");
    expect(
      imageErrorOf(() => decodePagemap("p", pagemapImage(1, [{ page: 2 ** 44 - 1, pages: 2, flags: 1 }]))),
    ).not.toBeNull();
  });
});

import { describe, expect, it } from "vitest";
import { InventoryEntrySchema } from "../../../src/criu/gen/task_pb.js";
import { decodeSingle } from "../../../src/criu/image.js";
import { decodePagemap } from "../../../src/criu/pagemap.js";
import { parentPagemap, staticParentFiles } from "../../../src/protocol/static-parent.js";

describe("the static parent", () => {
  it("claims every page of user space but the first, once", () => {
    const { pagesId, runs } = decodePagemap("pagemap-1.img", parentPagemap());
    expect(pagesId).toBe(1);
    let next = 1;
    for (const { page, pages, present } of runs) {
      expect({ page, present, fits: pages < 2 ** 32 }).toEqual({ page: next, present: true, fits: true });
      next = page + pages;
    }
    expect(next).toBe(0x7ffffffff);
  });

  it("has an inventory whose time of dump never lies in the past, and no bytes of pages", () => {
    const files = new Map(staticParentFiles().map(({ name, bytes }) => [name, bytes]));
    expect([...files.keys()]).toEqual(["inventory.img", "pages-1.img"]);
    const inventory = decodeSingle(
      "inventory.img",
      "inventory",
      InventoryEntrySchema,
      files.get("inventory.img")!,
    );
    expect(inventory).toMatchObject({ imgVersion: 1, dumpUptime: 1n << 60n });
    expect(files.get("pages-1.img")).toHaveLength(0);
  });
});

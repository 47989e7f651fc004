import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadTable, saveTable } from "../../../src/migration/table-file.js";
import { wantedPages } from "../../../src/warp/page-ranges.js";
import { buildTable } from "../../../src/warp/table.js";
import { ANONYMOUS, FakeGuest } from "../warp/fake-guest.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "mwarp-unit-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const PAGE = 0x5000;

/** Three contiguous pages that may be exchanged, and one elsewhere that somebody else holds, too. */
function table() {
  const source = new FakeGuest();
  const destination = new FakeGuest();
  const [from, to] = [source.task(1), destination.task(1)];
  for (const [index, frame] of [500, 501, 502, 900].entries()) {
    source.map(from, PAGE + index, frame, ANONYMOUS);
    source.setHead(frame, frame === 900 ? 2 : 1);
    destination.map(to, PAGE + index, 2000 + index);
  }
  const wanted = wantedPages([{ nsPid: 1, page: PAGE, pages: 4 }]);
  return buildTable({ source: source.sourceView, destination: destination.view, wanted });
}

describe("the table that is kept of a migration", () => {
  it("has a row for each run of pages that lie together and were treated alike", () => {
    saveTable(folder, table());
    expect(loadTable(folder)).toEqual([
      {
        task: 1,
        page: PAGE,
        pages: 3,
        source_kind: "exclusive",
        treatment: "exchange",
        source_frame: 500,
        destination_frame: 2000,
      },
      {
        task: 1,
        page: PAGE + 3,
        pages: 1,
        source_kind: "held",
        treatment: "copy",
        source_frame: 900,
        destination_frame: 2003,
      },
    ]);
  });

  it("is kept of the last 20 migrations only", () => {
    const directories = Array.from({ length: 23 }, (_, index) => path.join(folder, `m-${100 + index}`));
    for (const directory of directories) {
      mkdirSync(directory);
      saveTable(directory, table());
    }
    expect(directories.map((directory) => existsSync(path.join(directory, "table")))).toEqual([
      ...Array.from({ length: 3 }, () => false),
      ...Array.from({ length: 20 }, () => true),
    ]);
    expect(() => loadTable(directories[0])).toThrow(
      expect.objectContaining({ code: "MWARP_E_MIGRATION_UNKNOWN" }),
    );
  });
});

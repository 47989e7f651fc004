/**
 * The mWarp table of a migration, kept for whoever wants to see it (`mwarp inspect ID --table`). It was true inside the stun
 * and is a record only: frames have moved on since.
 */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { deserialize, serialize } from "node:v8";
import { deflateSync, inflateSync } from "node:zlib";
import { z } from "zod";
import { MwarpError } from "../errors.js";
import type { PageSourceKind, PageTreatment, TableRun } from "../protocol/migration.js";
import { SourceKind } from "../warp/exclusivity.js";
import { PageClass, type WarpTable } from "../warp/table.js";

const NAME = "table";
/** Tables kept; one of a scattered GiB has about a megabyte. */
const KEPT = 20;
const treatments: Readonly<Record<number, PageTreatment>> = {
  [PageClass.exchange]: "exchange",
  [PageClass.copy]: "copy",
  [PageClass.shared]: "shared",
};
const sourceKindNames: Readonly<Record<number, PageSourceKind>> = {
  [SourceKind.exclusive]: "exclusive",
  [SourceKind.held]: "held",
  [SourceKind.ksm]: "ksm",
  [SourceKind.file]: "file",
  [SourceKind.zero]: "zero",
  [SourceKind.hugeZero]: "huge_zero",
  [SourceKind.unknown]: "unknown",
};

const RunsSchema = z.object({
  nsPid: z.instanceof(Uint32Array),
  page: z.instanceof(Float64Array),
  pages: z.instanceof(Uint32Array),
  treatment: z.instanceof(Uint8Array),
  sourceKind: z.instanceof(Uint8Array),
  sourceFrame: z.instanceof(Uint32Array),
  destinationFrame: z.instanceof(Uint32Array),
});
type TableRuns = z.infer<typeof RunsSchema>;
/** Pages that are in no walk of the page tables have no frames either. */
const AsBytesSchema = z.array(z.object({ nsPid: z.number(), page: z.number(), pages: z.number() }));
const FileSchema = z.object({ runs: RunsSchema, asBytes: AsBytesSchema });

/** Runs of pages that are contiguous in the address space and on both sides, of one kind, and treated alike. */
export function tableRuns(table: WarpTable): TableRuns {
  let count = 0;
  forEachRun(table, () => count++);
  const runs = {
    nsPid: new Uint32Array(count),
    page: new Float64Array(count),
    pages: new Uint32Array(count),
    treatment: new Uint8Array(count),
    sourceKind: new Uint8Array(count),
    sourceFrame: new Uint32Array(count),
    destinationFrame: new Uint32Array(count),
  };
  let at = 0;
  forEachRun(table, (nsPid, page, pages, position) => {
    runs.nsPid[at] = nsPid;
    runs.page[at] = page;
    runs.pages[at] = pages;
    runs.treatment[at] = table.classes[position];
    runs.sourceKind[at] = table.kinds[position];
    runs.sourceFrame[at] = table.sourceFrames[position];
    runs.destinationFrame[at] = table.destinationFrames[position];
    at++;
  });
  return runs;
}

/** `position` is that of the run's first page in the wanted order. */
function forEachRun(
  { wanted, sourceFrames, destinationFrames, classes, kinds }: WarpTable,
  visit: (nsPid: number, page: number, pages: number, position: number) => void,
): void {
  let position = 0;
  for (const { nsPid, startPage, pages } of wanted.tasks) {
    for (let run = 0; run < pages.length; run++) {
      const end = position + pages[run];
      let page = startPage[run];
      while (position < end) {
        let length = 1;
        while (
          position + length < end &&
          sourceFrames[position + length] === sourceFrames[position] + length &&
          destinationFrames[position + length] === destinationFrames[position] + length &&
          classes[position + length] === classes[position] &&
          kinds[position + length] === kinds[position]
        )
          length++;
        visit(nsPid, page, length, position);
        page += length;
        position += length;
      }
    }
  }
}

/** Keeps the table in the migration's directory; the oldest of its siblings' tables go. */
export function saveTable(directory: string, table: WarpTable): void {
  const kept = serialize({ runs: tableRuns(table), asBytes: table.asBytes ?? [] });
  writeFileSync(path.join(directory, NAME), deflateSync(kept, { level: 1 }), { mode: 0o600 });
  const siblings = path.dirname(directory);
  const tables = readdirSync(siblings)
    .sort()
    .map((id) => path.join(siblings, id, NAME))
    .filter((file) => existsSync(file));
  for (const file of tables.slice(0, -KEPT)) rmSync(file, { force: true });
}

/** @throws MWARP_E_MIGRATION_UNKNOWN when none is kept */
export function loadTable(directory: string): TableRun[] {
  const file = path.join(directory, NAME);
  if (!existsSync(file))
    throw new MwarpError("MWARP_E_MIGRATION_UNKNOWN", "no table is kept of this migration", {
      hint: `Only committed migrations by warp have one, and only the last ${KEPT} are kept.`,
    });
  const { runs, asBytes } = FileSchema.parse(deserialize(inflateSync(readFileSync(file))));
  const walked = Array.from(
    runs.pages,
    (pages, at): TableRun => ({
      task: runs.nsPid[at],
      page: runs.page[at],
      pages,
      treatment: treatments[runs.treatment[at]],
      source_kind: sourceKindNames[runs.sourceKind[at]],
      source_frame: runs.sourceFrame[at],
      destination_frame: runs.destinationFrame[at],
    }),
  );
  const delivered = asBytes.map(
    ({ nsPid, page, pages }): TableRun => ({
      task: nsPid,
      page,
      pages,
      treatment: "bytes",
      source_kind: "absent",
      source_frame: null,
      destination_frame: null,
    }),
  );
  return [...walked, ...delivered].sort((a, b) => a.task - b.task || a.page - b.page);
}

/**
 * pagemap-*.img: which pages of a task (or shared memory segment) an image holds, and where the bytes are. The bytes of
 * all present entries lie in pages-ID.img one after another, in the order of the entries.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { PAGE_BYTES } from "../units.js";
import { END_PAGE } from "./address.js";
import { PagemapEntrySchema, PagemapHeadSchema } from "./gen/pagemap_pb.js";
import { decodeRecord, encodeImage, imageError, type RecordBounds, recordBounds } from "./image.js";
import { decodePagemapEntry, type PagemapEntryFields } from "./pagemap-entry.js";

/** criu/include/pagemap.h */
const PE_PARENT = 1;
const PE_LAZY = 2;
const PE_PRESENT = 4;

/**
 * A run of pages. Those that are present have their bytes in the pages file, and their entry is kept as it came, unknown
 * fields and all; the others are only in the task (in parent, or lazy).
 */
export type PagemapRun =
  | { readonly page: number; readonly pages: number; readonly present: false }
  | { readonly page: number; readonly pages: number; readonly present: true; readonly record: Uint8Array };

export interface Pagemap {
  readonly pagesId: number;
  readonly head: Uint8Array;
  /** Ascending, without overlap. */
  readonly runs: readonly PagemapRun[];
}

/** Reads a pagemap; @throws MWARP_E_IMAGE also for entries out of order, empty or contradictory. */
export function decodePagemap(name: string, bytes: Uint8Array): Pagemap {
  let head: Uint8Array | undefined;
  const runs: PagemapRun[] = [];
  let next = 0;
  for (const bounds of recordBounds(name, "pagemap", bytes)) {
    if (head === undefined) {
      head = bytes.subarray(bounds.start, bounds.end);
      continue;
    }
    const run = decodeRun(name, bytes, bounds);
    if (run.page < next) {
      throw imageError(name, `the entry at page ${run.page} overlaps or precedes the one before`);
    }
    next = run.page + run.pages;
    if (next > END_PAGE) throw imageError(name, `the entry at page ${run.page} goes beyond user space`);
    runs.push(run);
  }
  if (head === undefined) throw imageError(name, "no head");
  return { pagesId: decodeRecord(name, PagemapHeadSchema, head).pagesId, head, runs };
}

function decodeRun(name: string, bytes: Uint8Array, bounds: RecordBounds): PagemapRun {
  const entry = decodePagemapEntry(name, bytes, bounds);
  const page = firstPage(name, entry);
  const pages = entry.pages ?? entry.compatPages ?? 0;
  if (pages === 0) throw imageError(name, "an entry without pages");
  if (!isPresent(name, entry)) return { page, pages, present: false };
  return { page, pages, present: true, record: bytes.subarray(bounds.start, bounds.end) };
}

function firstPage(name: string, { vaddr }: PagemapEntryFields): number {
  if (vaddr === undefined || vaddr % PAGE_BYTES !== 0) {
    throw imageError(name, `${vaddr ?? "nothing"} is not the address of a user page`);
  }
  return vaddr / PAGE_BYTES;
}

function isPresent(name: string, entry: PagemapEntryFields): boolean {
  let flags = entry.flags ?? 0;
  // As CRIU reads images of old versions (init_compat_pagemap_entry).
  if (entry.inParent !== undefined && entry.inParent !== 0) flags |= PE_PARENT;
  else if (entry.flags === undefined) flags = PE_PRESENT;
  const present = (flags & PE_PRESENT) !== 0;
  const elsewhere = (flags & PE_PARENT) !== 0 || ((flags & PE_LAZY) !== 0 && !present);
  if (present === elsewhere) throw imageError(name, `an entry with flags ${flags}`);
  return present;
}

/** An entry for pages whose bytes have been put into the pages file. */
export function presentRecord(page: number, pages: number): Uint8Array {
  const entry = create(PagemapEntrySchema, {
    vaddr: BigInt(page) * BigInt(PAGE_BYTES),
    // Both counts: CRIU 4.1 knows the first only, 4.2 requires it and reads the second.
    compatNrPages: pages,
    flags: PE_PRESENT,
    nrPages: BigInt(pages),
  });
  return toBinary(PagemapEntrySchema, entry);
}

export function encodePagemap(head: Uint8Array, records: readonly Uint8Array[]): Uint8Array {
  return encodeImage("pagemap", [head, ...records]);
}

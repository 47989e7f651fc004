/**
 * Where guest RAM lies: guest-physical ranges from QEMU's flat view, their addresses in the VMM from `gpa2hva`, and a
 * check against the VMM's maps that all of it is a shared memory file. None of this changes while a VMM lives, so it
 * is found once per VMM start; what *backs* the ranges does change (backing.ts).
 */
import { readFileSync, statfsSync, statSync } from "node:fs";
import * as z from "zod/mini";
import { isMwarpError, MwarpError } from "../errors.js";
import { byteCount, type Gpa, gpa, type Hva, hva, PAGE_BYTES } from "../units.js";
import { BackingReader, type RamBacking } from "./backing.js";
import { memoryEncryption } from "./hazards.js";
import type { QmpCallOptions, QmpClient } from "./qmp.js";
import type { MemoryBacking, MemoryLayout, RamRegion } from "./types.js";

/** statfs(2) types of the two file systems whose files are memory. */
const HUGETLBFS_MAGIC = 0x958458f6;
const TMPFS_MAGIC = 0x01021994;

/**
 * The legacy VGA and firmware window. No kernel hands these pages out (they are reserved in every memory map), and
 * which of them are RAM changes with the chipset's shadowing (PAM): they are left out for good.
 */
const LEGACY_START = 0xa0000;
const LEGACY_END = 0x100000;

/** A contiguous run of one RAM block in the guest-physical address space. */
export interface RamPiece {
  readonly block: string;
  readonly gpa: Gpa;
  readonly bytes: number;
  /** Offset in the block. */
  readonly offset: number;
}

const MemdevSchema = z.array(z.object({ id: z.optional(z.string()), size: z.number(), share: z.boolean() }));

/**
 * RAM pieces of the guest-physical address space from the text of `info mtree -f`: the flat view whose address space is
 * called "memory", pieces of type `ram` (not rom, not i/o), outside the legacy window, joined where they touch.
 */
export function parseFlatView(text: string): RamPiece[] {
  const view = text.split(/^FlatView #/m).find((part) => /^\s*AS "memory",/m.test(part));
  if (view === undefined) throw new MwarpError("MWARP_E_PROTOCOL", 'QEMU shows no address space "memory"');
  const pieces: RamPiece[] = [];
  const line = /^\s*([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, ram\): (\S+)(?: @([0-9a-f]+))?/gm;
  for (const [, first, last, block, offset] of view.matchAll(line)) {
    const start = Number.parseInt(first, 16);
    const end = Number.parseInt(last, 16) + 1;
    const base = offset === undefined ? 0 : Number.parseInt(offset, 16);
    addPiece(pieces, block, start, Math.min(end, LEGACY_START), base);
    const above = Math.max(start, LEGACY_END);
    addPiece(pieces, block, above, end, base + (above - start));
  }
  return pieces;
}

function addPiece(pieces: RamPiece[], block: string, start: number, end: number, offset: number): void {
  if (end <= start) return;
  const last = pieces.at(-1);
  if (last?.block === block && last.gpa + last.bytes === start && last.offset + last.bytes === offset) {
    pieces[pieces.length - 1] = { ...last, bytes: last.bytes + (end - start) };
  } else {
    pieces.push({ block, gpa: gpa(start), bytes: end - start, offset });
  }
}

/** The address from the text of `gpa2hva`. */
export function parseHostAddress(text: string): Hva {
  const match = / is 0x([0-9a-f]+)/.exec(text);
  if (match === null) throw new MwarpError("MWARP_E_PROTOCOL", `QEMU: ${text.trim()}`);
  return hva(Number.parseInt(match[1], 16));
}

/**
 * Finds a VM's RAM from outside.
 * @throws MWARP_E_VM_UNREACHABLE, MWARP_E_TIMEOUT, MWARP_E_CANCELLED, MWARP_E_PROTOCOL. Memory that cannot be exchanged is
 * no error but `unsuitable`, with the reason.
 */
export async function discoverMemory(
  pid: number,
  qmp: QmpClient,
  options: QmpCallOptions = {},
): Promise<MemoryBacking> {
  const encryption = await memoryEncryption(qmp, options);
  if (encryption !== null) return unsuitable(`it is encrypted (${encryption})`);
  const devices = z.parse(MemdevSchema, await qmp.execute("query-memdev", {}, options));
  const all = parseFlatView(await qmp.humanCommand("info mtree -f", options));
  // Device memory (a display's, a firmware's) is of type ram too; guest RAM comes from memory backends.
  const pieces = all.filter((piece) => devices.some((device) => isBlockOf(device.id, piece.block)));
  if (pieces.length === 0) return unsuitable("QEMU names no memory backend behind guest RAM");
  for (const device of devices) {
    if (!device.share && pieces.some((piece) => isBlockOf(device.id, piece.block)))
      return unsuitable(`memory backend ${device.id} is private (share=off)`);
  }
  const regions: RamRegion[] = [];
  for (const piece of pieces) {
    const text = await qmp.humanCommand(`gpa2hva 0x${piece.gpa.toString(16)}`, options);
    regions.push({ gpa: piece.gpa, hva: parseHostAddress(text), bytes: byteCount(piece.bytes) });
  }
  const bytes = byteCount(regions.reduce((sum, region) => sum + region.bytes, 0));
  return inspect(pid, { regions, bytes, hostPageBytes: byteCount(PAGE_BYTES) });
}

/** Machines before QEMU 4.0 name a block by the whole path of its backend. */
const isBlockOf = (id: string | undefined, block: string): boolean =>
  id !== undefined && (block === id || block === `/objects/${id}`);

const unsuitable = (reason: string): MemoryBacking => ({ kind: "unsuitable", reason });

/** Holds the layout against the VMM's maps, and finds the host page size. */
function inspect(pid: number, layout: MemoryLayout): MemoryBacking {
  let backing: RamBacking;
  try {
    backing = new BackingReader(pid, layout).read();
  } catch (error) {
    if (isMwarpError(error, "MWARP_E_MEMORY_NOT_SHARED")) return unsuitable(error.message);
    throw error;
  }
  let hostPageBytes = PAGE_BYTES;
  for (const file of backing.files) {
    // A VMM that is started again opens a file by its name again, with the frames in it that are another VM's by then.
    if (statSync(file.path).nlink > 0)
      return unsuitable("guest RAM lies in a file that has a name: use memory-backend-memfd");
    const { type, bsize } = statfsSync(file.path);
    if (type === HUGETLBFS_MAGIC) hostPageBytes = Math.max(hostPageBytes, bsize);
    else if (type !== TMPFS_MAGIC) return unsuitable("guest RAM is backed by a file on disk, not by memory");
  }
  const transparentHuge = hostPageBytes === PAGE_BYTES && hasHugeMappings(pid);
  return {
    kind: "shared-memfd",
    layout: { ...layout, hostPageBytes: byteCount(hostPageBytes), transparentHuge },
  };
}

/** Whether the VMM maps any memory file by huge page-table entries: then the host gives RAM transparent huge pages where it can. */
function hasHugeMappings(pid: number): boolean {
  const mapped = /^ShmemPmdMapped:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
  return Number(mapped?.[1] ?? 0) > 0;
}

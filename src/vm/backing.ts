/**
 * What backs each piece of guest RAM right now. After a remap a VM's RAM is a patchwork of its own memory file and other
 * VMs'; only the VMM's maps know (invariant I6), so this is read again whenever it matters, also while the VMs are
 * stopped: one buffer and four arrays are used over and over.
 */
import { MwarpError } from "../errors.js";
import { type ByteCount, byteCount, type Hva, hva } from "../units.js";
import { countMappings, type MapsLine, MapsReader, scanMaps } from "./maps.js";
import type { MemoryLayout } from "./types.js";

/** A memory file, told apart from others as /proc/PID/maps does. */
export interface BackingFile {
  readonly major: number;
  readonly minor: number;
  readonly inode: number;
  /** A path by which another process may open the file while this backing is current. */
  readonly path: string;
}

/** Equal for the same file in whatever process it is mapped. */
export const fileKey = (file: Pick<BackingFile, "major" | "minor" | "inode">): string =>
  `${file.major.toString(16)}:${file.minor.toString(16)}:${file.inode}`;

/** Pieces of guest RAM in ascending HVA order, each contiguous in one file. Valid until the reader reads again. */
export interface RamBacking {
  readonly count: number;
  readonly hva: Float64Array;
  readonly bytes: Float64Array;
  /** Offset of the piece in its file, bytes. */
  readonly offset: Float64Array;
  /** Index into `files`. */
  readonly file: Uint32Array;
  readonly files: readonly BackingFile[];
  /** All mappings that the VMM has, of RAM and of everything else: what vm.max_map_count counts. */
  readonly mappings: number;
}

/** Index of the piece that holds `address`, or -1. */
export function lookupBacking(backing: RamBacking, address: Hva): number {
  let low = 0;
  let high = backing.count - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    if (backing.hva[middle] <= address) low = middle + 1;
    else high = middle - 1;
  }
  if (high < 0 || address >= backing.hva[high] + backing.bytes[high]) return -1;
  return high;
}

class Pieces implements RamBacking {
  count = 0;
  hva: Float64Array = new Float64Array(1024);
  bytes: Float64Array = new Float64Array(1024);
  offset: Float64Array = new Float64Array(1024);
  file: Uint32Array = new Uint32Array(1024);
  files: BackingFile[] = [];
  mappings = 0;

  add(start: number, length: number, offset: number, file: number): void {
    const last = this.count - 1;
    if (
      last >= 0 &&
      this.file[last] === file &&
      this.hva[last] + this.bytes[last] === start &&
      this.offset[last] + this.bytes[last] === offset
    ) {
      this.bytes[last] += length;
      return;
    }
    if (this.count === this.hva.length) this.#grow();
    this.hva[this.count] = start;
    this.bytes[this.count] = length;
    this.offset[this.count] = offset;
    this.file[this.count] = file;
    this.count++;
  }

  #grow(): void {
    const wider = (old: Float64Array): Float64Array => {
      const array = new Float64Array(old.length * 2);
      array.set(old);
      return array;
    };
    this.hva = wider(this.hva);
    this.bytes = wider(this.bytes);
    this.offset = wider(this.offset);
    const file = new Uint32Array(this.file.length * 2);
    file.set(this.file);
    this.file = file;
  }
}

/** Reads what backs one VM's RAM. */
export class BackingReader {
  readonly #pid: number;
  readonly #maps: MapsReader;
  /** HVA ranges of guest RAM, ascending. */
  readonly #ranges: readonly { readonly start: number; readonly end: number }[];
  readonly #pieces = new Pieces();

  constructor(pid: number, layout: MemoryLayout) {
    this.#pid = pid;
    this.#maps = new MapsReader(pid);
    this.#ranges = layout.regions
      .map((region) => ({ start: region.hva as number, end: region.hva + region.bytes }))
      .sort((left, right) => left.start - right.start);
  }

  /**
   * The backing at this moment.
   * @throws MWARP_E_MEMORY_NOT_SHARED when a part of guest RAM is not a shared file mapping; MWARP_E_VM_UNREACHABLE.
   */
  read(): RamBacking {
    const text = this.#maps.read();
    // One that has ended and that nobody has waited for yet: its memory is gone already.
    if (text.length === 0)
      throw new MwarpError("MWARP_E_VM_UNREACHABLE", `the VMM ${this.#pid} has ended: it has no mappings`);
    return this.parse(text);
  }

  /** The same from the bytes of a maps file. */
  parse(text: Uint8Array): RamBacking {
    const pieces = this.#pieces;
    pieces.count = 0;
    pieces.files = [];
    pieces.mappings = countMappings(text);
    for (const { start, end } of this.#ranges) {
      let covered = start;
      scanMaps(text, start, end, (line) => {
        if (line.start > covered || !line.shared || !line.writable || line.inode === 0)
          throw notShared(covered);
        const first = Math.max(line.start, start);
        const last = Math.min(line.end, end);
        pieces.add(first, last - first, line.offset + (first - line.start), this.#fileOf(line));
        covered = last;
      });
      if (covered < end) throw notShared(covered);
    }
    return pieces;
  }

  /** Index of the mapping's file. There are about as many files as VMs, and tens of thousands of mappings: no keys are made. */
  #fileOf(line: Readonly<MapsLine>): number {
    const files = this.#pieces.files;
    for (let index = 0; index < files.length; index++) {
      const file = files[index];
      if (file.inode === line.inode && file.minor === line.minor && file.major === line.major) return index;
    }
    const path = `/proc/${this.#pid}/map_files/${line.start.toString(16)}-${line.end.toString(16)}`;
    return files.push({ major: line.major, minor: line.minor, inode: line.inode, path }) - 1;
  }
}

function notShared(address: number): MwarpError {
  return new MwarpError(
    "MWARP_E_MEMORY_NOT_SHARED",
    `guest RAM at 0x${address.toString(16)} of the VMM is not a shared mapping of a memory file`,
  );
}

/** One piece as an object, for messages and tests. */
export function backingPiece(
  backing: RamBacking,
  index: number,
): { hva: Hva; bytes: ByteCount; offset: number; file: BackingFile } {
  return {
    hva: hva(backing.hva[index]),
    bytes: byteCount(backing.bytes[index]),
    offset: backing.offset[index],
    file: backing.files[backing.file[index]],
  };
}

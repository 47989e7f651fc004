/** Extents resolved to what mmap needs: addresses in both VMMs, and the file and offset behind each (invariant I6). */
import { MwarpError } from "../../errors.js";
import { type Hva, PAGE_BYTES } from "../../units.js";
import { type BackingFile, fileKey, lookupBacking, type RamBacking } from "../../vm/backing.js";
import type { Extents } from "../extents.js";
import type { RamMap } from "../ram-map.js";

/** One VM's half of all pieces. */
export interface SidePieces {
  readonly hva: Float64Array;
  readonly offset: Float64Array;
  /** Index into `files` of the exchange. */
  readonly file: Uint32Array;
}

/** Pieces contiguous in both VMMs and in the file behind each side. */
export interface ExchangePieces {
  readonly count: number;
  readonly bytes: Float64Array;
  readonly source: SidePieces;
  readonly destination: SidePieces;
  /** Each memory file once, whichever VMM maps it. */
  readonly files: readonly BackingFile[];
}

/** One VM as read inside the stun. */
export interface BackedRam {
  readonly ram: RamMap;
  readonly backing: RamBacking;
}

/** Splits extents where the file or its contiguity changes on either side. Throws MWARP_E_WARP for RAM without a backing. */
export function splitByBacking(extents: Extents, source: BackedRam, destination: BackedRam): ExchangePieces {
  const files = new FileTable();
  const from = new SideReader(source, files);
  const to = new SideReader(destination, files);
  const bytes: number[] = [];
  for (let index = 0; index < extents.count; index++) {
    let sourceHva: number = source.ram.hvaOf(extents.sourceFrames[index]);
    let destinationHva: number = destination.ram.hvaOf(extents.destinationFrames[index]);
    let left = extents.pages[index] * PAGE_BYTES;
    while (left > 0) {
      const piece = Math.min(left, from.contiguousBytes(sourceHva), to.contiguousBytes(destinationHva));
      from.push(sourceHva);
      to.push(destinationHva);
      bytes.push(piece);
      sourceHva += piece;
      destinationHva += piece;
      left -= piece;
    }
  }
  return {
    count: bytes.length,
    bytes: Float64Array.from(bytes),
    source: from.finish(),
    destination: to.finish(),
    files: files.files,
  };
}

class FileTable {
  readonly files: BackingFile[] = [];
  readonly #numbers = new Map<string, number>();

  numberOf(file: BackingFile): number {
    const key = fileKey(file);
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    this.#numbers.set(key, this.files.length);
    return this.files.push(file) - 1;
  }
}

/** Looks pieces up in one VM's backing; addresses mostly ascend, so the last piece is tried first. */
class SideReader {
  readonly #backing: RamBacking;
  readonly #files: FileTable;
  readonly #numbers: (number | undefined)[] = [];
  readonly #hva: number[] = [];
  readonly #offset: number[] = [];
  readonly #file: number[] = [];
  #piece = -1;

  constructor({ backing }: BackedRam, files: FileTable) {
    this.#backing = backing;
    this.#files = files;
  }

  contiguousBytes(address: number): number {
    const { hva, bytes } = this.#backing;
    const last = this.#piece;
    if (last < 0 || address < hva[last] || address >= hva[last] + bytes[last]) {
      this.#piece = lookupBacking(this.#backing, address as Hva);
      if (this.#piece < 0) {
        throw new MwarpError("MWARP_E_WARP", `nothing backs guest RAM at 0x${address.toString(16)}`);
      }
    }
    return hva[this.#piece] + bytes[this.#piece] - address;
  }

  /** Notes the piece that `contiguousBytes` has just found. */
  push(address: number): void {
    const { hva, offset, file, files } = this.#backing;
    const local = file[this.#piece];
    let number = this.#numbers[local];
    if (number === undefined) {
      number = this.#files.numberOf(files[local]);
      this.#numbers[local] = number;
    }
    this.#hva.push(address);
    this.#offset.push(offset[this.#piece] + (address - hva[this.#piece]));
    this.#file.push(number);
  }

  finish(): SidePieces {
    return {
      hva: Float64Array.from(this.#hva),
      offset: Float64Array.from(this.#offset),
      file: Uint32Array.from(this.#file),
    };
  }
}

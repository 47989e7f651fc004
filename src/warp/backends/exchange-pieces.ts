/** Extents resolved to what mmap needs: addresses in both VMMs, and the file and offset behind each (invariant I6). */
import { PAGE_BYTES } from "../../units.js";
import { type BackingFile, fileKey } from "../../vm/backing.js";
import { type BackedRam, type BackingCursor, forEachPiece } from "../backed-pieces.js";
import type { Extents } from "../extent-list.js";

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

/** Splits extents where the file or its contiguity changes on either side. Throws MWARP_E_WARP for RAM without a backing. */
export function splitByBacking(extents: Extents, source: BackedRam, destination: BackedRam): ExchangePieces {
  const files = new FileTable();
  const from = new SideRecorder(files);
  const to = new SideRecorder(files);
  const bytes: number[] = [];
  forEachPiece(extents, source, destination, (fromCursor, toCursor, pages) => {
    from.record(fromCursor);
    to.record(toCursor);
    bytes.push(pages * PAGE_BYTES);
  });
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

/** Notes what backs one VM's side of each piece. */
class SideRecorder {
  readonly #files: FileTable;
  /** Number in the exchange's table of each file of this VM's backing. */
  readonly #numbers: (number | undefined)[] = [];
  readonly #hva: number[] = [];
  readonly #offset: number[] = [];
  readonly #file: number[] = [];

  constructor(files: FileTable) {
    this.#files = files;
  }

  record({ backing, mapping, hva, offset }: BackingCursor): void {
    const local = backing.file[mapping];
    let number = this.#numbers[local];
    if (number === undefined) {
      number = this.#files.numberOf(backing.files[local]);
      this.#numbers[local] = number;
    }
    this.#hva.push(hva);
    this.#offset.push(offset);
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

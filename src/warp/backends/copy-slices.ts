/** Extents cut into pieces of work of about equal size, in the form that the addon takes; made one at a time, while others are copied. */
import { type BackedRam, BackingCursor } from "../backed-pieces.js";
import type { Extents } from "../extent-list.js";
import type { RamMap } from "../ram-map.js";

/** A piece of work for one thread: 16 MiB, so that a cancel is heard soon and threads end together. */
const SLICE_PAGES = 4096;

/** Where the extents of a slice begin on one side. */
export interface SlicePlaces {
  /** Addresses in the VMM, or offsets in a memory file. */
  readonly at: Float64Array;
  /** Index of the memory file in the side's backing; all 0 for addresses. */
  readonly file: Uint32Array;
}

export interface Slice {
  readonly source: SlicePlaces;
  readonly destination: SlicePlaces;
  readonly pages: Uint32Array;
}

/** Walks one side of the extents. */
interface Cursor {
  enter(frame: number): void;
  advance(pages: number): void;
  pagesToEnd(): number;
  readonly at: number;
  readonly file: number;
}

/** By addresses in the VMM, whatever backs them. */
class AddressCursor implements Cursor {
  readonly #ram: RamMap;
  readonly file = 0;
  #frame = 0;

  constructor(ram: RamMap) {
    this.#ram = ram;
  }

  enter(frame: number): void {
    this.#frame = frame;
  }

  advance(pages: number): void {
    this.#frame += pages;
  }

  pagesToEnd(): number {
    return Number.POSITIVE_INFINITY;
  }

  get at(): number {
    return this.#ram.hvaOf(this.#frame);
  }
}

/** By offsets in the files that back guest RAM. */
class FileCursor extends BackingCursor implements Cursor {
  get at(): number {
    return this.offset;
  }

  get file(): number {
    return this.backing.file[this.mapping];
  }
}

export const byAddress = (ram: RamMap): Cursor => new AddressCursor(ram);
export const byFile = (backed: BackedRam): Cursor => new FileCursor(backed);

/** The arrays of a slice are filled again for the next: the addon takes copies of its own before its call returns. */
export function* cutSlices(extents: Extents, from: Cursor, to: Cursor): IterableIterator<Slice> {
  const source = new Places();
  const destination = new Places();
  const length = new Uint32Array(SLICE_PAGES);
  let count = 0;
  let room = SLICE_PAGES;
  const take = (): Slice => {
    const end = count;
    count = 0;
    room = SLICE_PAGES;
    return {
      source: source.upTo(end),
      destination: destination.upTo(end),
      pages: length.subarray(0, end),
    };
  };
  for (let index = 0; index < extents.count; index++) {
    from.enter(extents.sourceFrames[index]);
    to.enter(extents.destinationFrames[index]);
    for (let left = extents.pages[index]; left > 0; ) {
      const piece = Math.min(room, left, from.pagesToEnd(), to.pagesToEnd());
      source.set(count, from);
      destination.set(count, to);
      length[count] = piece;
      count++;
      room -= piece;
      left -= piece;
      if (left > 0) {
        from.advance(piece);
        to.advance(piece);
      }
      if (room === 0) yield take();
    }
  }
  if (count > 0) yield take();
}

class Places {
  readonly #at = new Float64Array(SLICE_PAGES);
  readonly #file = new Uint32Array(SLICE_PAGES);

  set(index: number, { at, file }: Cursor): void {
    this.#at[index] = at;
    this.#file[index] = file;
  }

  upTo(count: number): SlicePlaces {
    return { at: this.#at.subarray(0, count), file: this.#file.subarray(0, count) };
  }
}

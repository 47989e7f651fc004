/** Runs of frames that are contiguous on both sides, as typed arrays; and the table cut into them. */
import { PAGE_BYTES } from "../units.js";
import type { RamMap } from "./ram-map.js";
import { PageClass, type WarpTable } from "./table.js";

export interface Extents {
  readonly count: number;
  /** Sum of `pages`. */
  readonly totalPages: number;
  readonly sourceFrames: Uint32Array;
  readonly destinationFrames: Uint32Array;
  readonly pages: Uint32Array;
}

export interface ExtentSet {
  /** May be exchanged: exclusive, and aligned to host pages on both sides. */
  readonly exchangeable: Extents;
  /** Can only be copied. */
  readonly copyOnly: Extents;
}

export const NO_EXTENTS: Extents = freeze(0, 0, new Uint32Array(0), new Uint32Array(0), new Uint32Array(0));

/** Appends extents to growing arrays. */
export class ExtentsBuilder {
  #count = 0;
  #total = 0;
  #source: Uint32Array;
  #destination: Uint32Array;
  #pages: Uint32Array;

  constructor(capacity = 1024) {
    this.#source = new Uint32Array(capacity);
    this.#destination = new Uint32Array(capacity);
    this.#pages = new Uint32Array(capacity);
  }

  push(sourceFrame: number, destinationFrame: number, pages: number): void {
    if (this.#count === this.#pages.length) this.#grow();
    this.#source[this.#count] = sourceFrame;
    this.#destination[this.#count] = destinationFrame;
    this.#pages[this.#count] = pages;
    this.#count++;
    this.#total += pages;
  }

  build(): Extents {
    const end = this.#count;
    return freeze(
      end,
      this.#total,
      this.#source.subarray(0, end),
      this.#destination.subarray(0, end),
      this.#pages.subarray(0, end),
    );
  }

  #grow(): void {
    const size = Math.max(1024, this.#pages.length * 2);
    this.#source = enlarged(this.#source, size);
    this.#destination = enlarged(this.#destination, size);
    this.#pages = enlarged(this.#pages, size);
  }
}

/**
 * Cuts a complete table into extents, in the wanted order. An extent never crosses a RAM region on either side, so it is
 * contiguous in both VMMs. With 2 MiB host pages only whole, aligned pieces of 512 frames are exchangeable; heads, tails
 * and what is aligned differently on the two sides is copied.
 */
export function buildExtents(table: WarpTable): ExtentSet {
  const { sourceFrames, destinationFrames, classes, source, destination } = table;
  const granule = Math.max(source.hostPageBytes, destination.hostPageBytes) / PAGE_BYTES;
  const exchangeable = new ExtentsBuilder();
  const copyOnly = new ExtentsBuilder();
  const total = classes.length;
  let position = 0;
  while (position < total) {
    const exchange = classes[position] === PageClass.exchange;
    const from = sourceFrames[position];
    const to = destinationFrames[position];
    const limit = Math.min(total - position, source.regionEnd(from) - from, destination.regionEnd(to) - to);
    let pages = 1;
    while (
      pages < limit &&
      sourceFrames[position + pages] === from + pages &&
      destinationFrames[position + pages] === to + pages &&
      (classes[position + pages] === PageClass.exchange) === exchange
    ) {
      pages++;
    }
    if (!exchange) copyOnly.push(from, to, pages);
    else if (granule === 1) exchangeable.push(from, to, pages);
    else pushAligned({ source, destination, granule, exchangeable, copyOnly }, from, to, pages);
    position += pages;
  }
  return { exchangeable: exchangeable.build(), copyOnly: copyOnly.build() };
}

export function concatExtents(first: Extents, second: Extents): Extents {
  if (first.count === 0) return second;
  if (second.count === 0) return first;
  return freeze(
    first.count + second.count,
    first.totalPages + second.totalPages,
    joined(first.sourceFrames, second.sourceFrames),
    joined(first.destinationFrames, second.destinationFrames),
    joined(first.pages, second.pages),
  );
}

interface Alignment {
  readonly source: RamMap;
  readonly destination: RamMap;
  readonly granule: number;
  readonly exchangeable: ExtentsBuilder;
  readonly copyOnly: ExtentsBuilder;
}

/** Alignment is that of the HVA: what mmap demands, together with a file offset that a huge mapping makes congruent. */
function pushAligned(alignment: Alignment, from: number, to: number, pages: number): void {
  const { source, destination, granule, exchangeable, copyOnly } = alignment;
  const phase = (source.hvaOf(from) / PAGE_BYTES) % granule;
  if (phase !== (destination.hvaOf(to) / PAGE_BYTES) % granule) {
    copyOnly.push(from, to, pages);
    return;
  }
  const head = Math.min(pages, (granule - phase) % granule);
  const middle = Math.floor((pages - head) / granule) * granule;
  const tail = pages - head - middle;
  if (head > 0) copyOnly.push(from, to, head);
  if (middle > 0) exchangeable.push(from + head, to + head, middle);
  if (tail > 0) copyOnly.push(from + head + middle, to + head + middle, tail);
}

function freeze(
  count: number,
  totalPages: number,
  sourceFrames: Uint32Array,
  destinationFrames: Uint32Array,
  pages: Uint32Array,
): Extents {
  return Object.freeze({ count, totalPages, sourceFrames, destinationFrames, pages });
}

function enlarged(array: Uint32Array, size: number): Uint32Array {
  const larger = new Uint32Array(size);
  larger.set(array);
  return larger;
}

function joined(first: Uint32Array, second: Uint32Array): Uint32Array {
  const both = new Uint32Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

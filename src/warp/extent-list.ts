/** Runs of frames that are contiguous on both sides, as typed arrays. */

export interface Extents {
  readonly count: number;
  /** Sum of `pages`. */
  readonly totalPages: number;
  readonly sourceFrames: Uint32Array;
  readonly destinationFrames: Uint32Array;
  readonly pages: Uint32Array;
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

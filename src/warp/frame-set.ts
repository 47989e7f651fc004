/**
 * Sets and words keyed by frame number. Both are arrays in chunks made on first use: no hashing, so no guest can
 * choose frames that collide, and memory follows the frames really met, not the size of the VM.
 */

const SET_SHIFT = 15;
const SET_FRAMES = 1 << SET_SHIFT;
const WORD_SHIFT = 16;
const WORD_FRAMES = 1 << WORD_SHIFT;

export class FrameSet {
  readonly #chunks: (Uint32Array | undefined)[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Empties it, and keeps the memory. */
  clear(): void {
    for (const chunk of this.#chunks) chunk?.fill(0);
    this.#size = 0;
  }

  /** Adds `frame`; false when it was in already. */
  add(frame: number): boolean {
    const number = frame >>> SET_SHIFT;
    let chunk = this.#chunks[number];
    if (chunk === undefined) {
      chunk = new Uint32Array(SET_FRAMES >>> 5);
      this.#chunks[number] = chunk;
    }
    const word = wordOf(frame);
    const bit = 1 << (frame & 31);
    if ((chunk[word] & bit) !== 0) return false;
    chunk[word] |= bit;
    this.#size++;
    return true;
  }

  /** Adds `frames` frames from `frame` on, all or none: false when any of them was in already. */
  addRun(frame: number, frames: number): boolean {
    if (frames === 1) return this.add(frame);
    const end = frame + frames;
    for (let at = frame; at < end; at = nextWord(at)) {
      const chunk = this.#chunks[at >>> SET_SHIFT];
      if (chunk !== undefined && (chunk[wordOf(at)] & bitsOf(at, end)) !== 0) return false;
    }
    for (let at = frame; at < end; at = nextWord(at)) {
      const number = at >>> SET_SHIFT;
      const chunk = this.#chunks[number] ?? new Uint32Array(SET_FRAMES >>> 5);
      this.#chunks[number] = chunk;
      chunk[wordOf(at)] |= bitsOf(at, end);
    }
    this.#size += frames;
    return true;
  }

  has(frame: number): boolean {
    const chunk = this.#chunks[frame >>> SET_SHIFT];
    return chunk !== undefined && (chunk[wordOf(frame)] & (1 << (frame & 31))) !== 0;
  }

  /** Visits, in ascending order, each group of 64 frames that has a member; bit n of low and high is frame first+n, first+32+n. */
  forEachGroup(visit: (first: number, low: number, high: number) => void): void {
    // forEach skips the holes of a sparse array, in ascending order.
    this.#chunks.forEach((chunk, number) => {
      if (chunk === undefined) return;
      const base = number * SET_FRAMES;
      for (let word = 0; word < chunk.length; word += 2) {
        const low = chunk[word];
        const high = chunk[word + 1];
        if ((low | high) !== 0) visit(base + word * 32, low, high);
      }
    });
  }
}

/** Of a chunk, the word with a frame's bit. */
const wordOf = (frame: number): number => (frame & (SET_FRAMES - 1)) >>> 5;

/** First frame whose bit lies in the next word. */
const nextWord = (frame: number): number => ((frame | 31) >>> 0) + 1;

/** In the word of `frame`, the bits from it on to before `end`, which is larger. */
function bitsOf(frame: number, end: number): number {
  const last = end - (frame - (frame & 31));
  return (-1 << (frame & 31)) & (last < 32 ? (1 << last) - 1 : -1);
}

/** A number below 2^32 for each frame; 0 when never set. */
export class FrameWords {
  readonly #chunks: (Uint32Array | undefined)[] = [];

  /** Sets all to 0, and keeps the memory. */
  clear(): void {
    for (const chunk of this.#chunks) chunk?.fill(0);
  }

  get(frame: number): number {
    const chunk = this.#chunks[frame >>> WORD_SHIFT];
    return chunk === undefined ? 0 : chunk[frame & (WORD_FRAMES - 1)];
  }

  set(frame: number, value: number): void {
    this.#chunk(frame)[frame & (WORD_FRAMES - 1)] = value;
  }

  #chunk(frame: number): Uint32Array {
    const number = frame >>> WORD_SHIFT;
    const present = this.#chunks[number];
    if (present !== undefined) return present;
    const made = new Uint32Array(WORD_FRAMES);
    this.#chunks[number] = made;
    return made;
  }
}

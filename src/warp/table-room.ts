/** Where tables are made, one after the other. */
import { FrameSet, FrameWords } from "./frame-set.js";
import { type WalkOutput, walkOutput } from "./pagewalk.js";

/**
 * The arrays of a table, and what is needed on the way to it. Memory that was never touched costs the host a fault for each
 * 4 KiB of it, which takes longer than what is then written there: so the table of a stun is made where that of its rehearsal
 * was, and a room holds one table at a time. For each wanted page 13 bytes, and 7 where nobody walks aside; for each frame in
 * whose neighbourhood one is met, 4 bytes and 3 bits: no more than that for each frame of the guest.
 */
export class TableRoom {
  readonly asked = new FrameSet();
  readonly others = new FrameSet();
  readonly exchanged = new FrameSet();
  readonly known = new FrameWords();
  #pages = 0;
  #from = walkOutput(0);
  #to: WalkOutput | null = null;
  #heads = new Uint32Array(0);
  #kinds = new Uint8Array(0);
  #classes = new Uint8Array(0);

  /** Makes room for a table of `pages` pages. The one that was here before is no more. */
  clear(pages: number): void {
    for (const part of [this.asked, this.others, this.exchanged, this.known]) part.clear();
    if (pages > this.#heads.length) {
      this.#from = walkOutput(pages);
      this.#to = null;
      this.#heads = new Uint32Array(pages);
      this.#kinds = new Uint8Array(pages);
      this.#classes = new Uint8Array(pages);
    }
    this.#pages = pages;
    this.heads.fill(0);
    this.kinds.fill(0);
  }

  get from(): WalkOutput {
    return firstOf(this.#from, this.#pages);
  }

  get to(): WalkOutput {
    this.#to ??= walkOutput(this.#heads.length);
    return firstOf(this.#to, this.#pages);
  }

  /** Zero at first. */
  get heads(): Uint32Array {
    return this.#heads.subarray(0, this.#pages);
  }

  /** Zero at first. */
  get kinds(): Uint8Array {
    return this.#kinds.subarray(0, this.#pages);
  }

  get classes(): Uint8Array {
    return this.#classes.subarray(0, this.#pages);
  }
}

/** Room for `pages` pages, of room for more. */
export const firstOf = ({ frames, flags, stretches }: WalkOutput, pages: number): WalkOutput => ({
  frames: frames.subarray(0, pages),
  flags: flags.subarray(0, pages),
  stretches: stretches.subarray(0, pages),
});

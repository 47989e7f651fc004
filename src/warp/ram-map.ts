/** Guest RAM by frame number: is a frame RAM, in which region, and where in the VMM does it lie. */
import { MwarpError } from "../errors.js";
import { type ByteCount, type Hva, hva, PAGE_BYTES } from "../units.js";
import type { MemoryLayout } from "../vm/types.js";

/** Frame numbers are kept in 32 bits: GPAs below 2^44. */
const MAX_FRAMES = 0xffff_ffff;

export class RamMap {
  readonly hostPageBytes: ByteCount;
  readonly transparentHuge: boolean;
  /** Frames of all regions together. */
  readonly frames: number;
  readonly #start: Float64Array;
  readonly #end: Float64Array;
  readonly #hva: Float64Array;
  #last = 0;

  /** Throws MWARP_E_WARP unless regions are page-aligned, ascending, disjoint and below 2^44. */
  constructor(layout: MemoryLayout) {
    const count = layout.regions.length;
    this.hostPageBytes = layout.hostPageBytes;
    this.transparentHuge = layout.transparentHuge ?? false;
    this.#start = new Float64Array(count);
    this.#end = new Float64Array(count);
    this.#hva = new Float64Array(count);
    let frames = 0;
    let previousEnd = 0;
    for (const [index, region] of layout.regions.entries()) {
      const start = region.gpa / PAGE_BYTES;
      const end = start + region.bytes / PAGE_BYTES;
      const aligned = Number.isInteger(start) && Number.isInteger(end) && region.hva % PAGE_BYTES === 0;
      if (!aligned || end <= start || start < previousEnd || end > MAX_FRAMES) {
        throw new MwarpError(
          "MWARP_E_WARP",
          `RAM region ${index} at GPA ${region.gpa} cannot be: ${region.bytes} bytes`,
        );
      }
      this.#start[index] = start;
      this.#end[index] = end;
      this.#hva[index] = region.hva;
      frames += end - start;
      previousEnd = end;
    }
    this.frames = frames;
  }

  /** Number of the region that holds `frame`, or -1. Frames come in runs, so the last answer is tried first. */
  regionOf(frame: number): number {
    const last = this.#last;
    if (frame >= this.#start[last] && frame < this.#end[last]) return last;
    for (let index = 0; index < this.#start.length; index++) {
      if (frame >= this.#start[index] && frame < this.#end[index]) {
        this.#last = index;
        return index;
      }
    }
    return -1;
  }

  contains(frame: number): boolean {
    return this.regionOf(frame) >= 0;
  }

  /** Whether `frames` frames from `frame` on are RAM and contiguous in the VMM. */
  containsRun(frame: number, frames: number): boolean {
    const region = this.regionOf(frame);
    return region >= 0 && frame + frames <= this.#end[region];
  }

  /** First frame after the region that holds `frame`; throws when it is not RAM. */
  regionEnd(frame: number): number {
    return this.#end[this.#require(frame)];
  }

  /** Where `frame` lies in the VMM's address space; throws MWARP_E_WARP when it is not RAM. */
  hvaOf(frame: number): Hva {
    const region = this.#require(frame);
    return hva(this.#hva[region] + (frame - this.#start[region]) * PAGE_BYTES);
  }

  #require(frame: number): number {
    const region = this.regionOf(frame);
    if (region < 0) throw new MwarpError("MWARP_E_WARP", `frame ${frame} is not guest RAM`);
    return region;
  }
}

/** The copy back end: bytes go through the daemon's process; no library in the VMM is needed. */
import { availableParallelism } from "node:os";
import { MwarpError } from "../../errors.js";
import { type ByteCount, byteCount, PAGE_BYTES } from "../../units.js";
import type { PageCopier } from "../backend.js";
import type { Extents } from "../extents.js";
import { copyBetween } from "../native.js";
import type { RamMap } from "../ram-map.js";

/** One VM: its VMM process, and where its RAM lies there. The caller has checked that the pid is still that VMM. */
export interface CopySide {
  readonly pid: number;
  readonly ram: RamMap;
}

/** A piece of work for one thread: 16 MiB, so that a cancel is heard soon and threads end together. */
const SLICE_PAGES = 4096;
/** More threads than memory channels gain nothing. */
const MAX_THREADS = 4;

interface Slice {
  readonly source: Float64Array;
  readonly destination: Float64Array;
  readonly pages: Uint32Array;
}

export class CopyBackend implements PageCopier {
  readonly #source: CopySide;
  readonly #destination: CopySide;
  readonly #threads: number;

  constructor(
    source: CopySide,
    destination: CopySide,
    threads: number = Math.min(MAX_THREADS, availableParallelism()),
  ) {
    this.#source = source;
    this.#destination = destination;
    this.#threads = threads;
  }

  async copy(extents: Extents, signal?: AbortSignal): Promise<ByteCount> {
    const slices = cutSlices(extents, this.#source.ram, this.#destination.ram);
    let copied = 0;
    let failed = false;
    const work = async (): Promise<void> => {
      // All threads take from one iterator; it ends for all when one fails.
      for (const slice of slices) {
        if (failed) return;
        if (signal?.aborted) throw new MwarpError("MWARP_E_CANCELLED", "the copy was cancelled");
        const { source, destination, pages } = slice;
        const bytes = await copyBetween(this.#source.pid, this.#destination.pid, source, destination, pages);
        copied += bytes;
      }
    };
    const guarded = async (): Promise<void> => {
      try {
        await work();
      } catch (error) {
        failed = true;
        throw error;
      }
    };
    // Every thread has ended before the error goes on: nobody writes into a VM that is about to run again.
    const ends = await Promise.allSettled(Array.from({ length: this.#threads }, guarded));
    const failure = ends.find((end) => end.status === "rejected");
    if (failure !== undefined) throw failure.reason;
    if (copied !== extents.totalPages * PAGE_BYTES) {
      throw new MwarpError("MWARP_E_WARP", `${copied} bytes copied of ${extents.totalPages} pages`);
    }
    return byteCount(copied);
  }
}

/** Work of about equal size, extents cut where need be; made one at a time, while others are copied. */
function* cutSlices(extents: Extents, source: RamMap, destination: RamMap): IterableIterator<Slice> {
  const from = new Float64Array(SLICE_PAGES);
  const to = new Float64Array(SLICE_PAGES);
  const length = new Uint32Array(SLICE_PAGES);
  let count = 0;
  let room = SLICE_PAGES;
  const take = (): Slice => {
    // The addon takes copies of its own before the call returns; the arrays are filled again then.
    const slice = {
      source: from.subarray(0, count),
      destination: to.subarray(0, count),
      pages: length.subarray(0, count),
    };
    count = 0;
    room = SLICE_PAGES;
    return slice;
  };
  for (let index = 0; index < extents.count; index++) {
    let done = 0;
    const pages = extents.pages[index];
    while (done < pages) {
      const piece = Math.min(room, pages - done);
      from[count] = source.hvaOf(extents.sourceFrames[index] + done);
      to[count] = destination.hvaOf(extents.destinationFrames[index] + done);
      length[count] = piece;
      count++;
      room -= piece;
      done += piece;
      if (room === 0) yield take();
    }
  }
  if (count > 0) yield take();
}

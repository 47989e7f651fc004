/**
 * The copy back end: bytes go straight from one VM's memory to the other's; no library in the VMM is needed. How, was chosen
 * by measurement (ARCHITECTURE.md, Copying).
 */
import { availableParallelism } from "node:os";
import { MwarpError, toMwarpError } from "../../errors.js";
import { type ByteCount, byteCount, PAGE_BYTES } from "../../units.js";
import type { RamBacking } from "../../vm/backing.js";
import type { PageCopier } from "../backend.js";
import type { Extents } from "../extent-list.js";
import { memoryKind } from "../memory-kind.js";
import { copyBetween, copyBetweenMapped, copyFromMapped } from "../native.js";
import type { RamMap } from "../ram-map.js";
import { byAddress, byFile, cutSlices, type Slice } from "./copy-slices.js";
import { MemoryFiles } from "./memory-files.js";

/** One VM: its VMM process, and where its RAM lies there. The caller has checked that the pid is still that VMM. */
export interface CopySide {
  readonly pid: number;
  readonly ram: RamMap;
  /** What backs the RAM now; without it bytes take the longer way, through a buffer. */
  readonly backing?: RamBacking;
}

export interface CopyOptions {
  readonly threads?: number;
  /** Told when the files behind the RAM cannot be mapped, and bytes take the longer way. */
  readonly onNote?: (message: string) => void;
}

/** What one read fault maps of a file at most (fault_around_bytes, 64 KiB): for less of it, a fault costs more than a buffer. */
const PAGES_PER_FAULT = 16;
/** More threads than memory channels gain nothing. */
const MAX_THREADS = 4;

/** One way to copy; disposed of when nothing is under way any more. */
interface Way extends Disposable {
  slices(extents: Extents): IterableIterator<Slice>;
  copy(slice: Slice): Promise<number>;
}

export class CopyBackend implements PageCopier {
  readonly #source: CopySide;
  readonly #destination: CopySide;
  readonly #threads: number;
  readonly #onNote: (message: string) => void;

  constructor(source: CopySide, destination: CopySide, options: CopyOptions = {}) {
    this.#source = source;
    this.#destination = destination;
    this.#threads = options.threads ?? Math.min(MAX_THREADS, availableParallelism());
    this.#onNote = options.onNote ?? (() => undefined);
  }

  async copy(extents: Extents, signal?: AbortSignal): Promise<ByteCount> {
    if (extents.count === 0) return byteCount(0);
    using way = this.#chooseWay(extents);
    const slices = way.slices(extents);
    let copied = 0;
    let failed = false;
    const work = async (): Promise<void> => {
      // All threads take from one iterator; it ends for all when one fails.
      for (const slice of slices) {
        if (failed) return;
        if (signal?.aborted) throw new MwarpError("MWARP_E_CANCELLED", "the copy was cancelled");
        const bytes = await way.copy(slice);
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

  #chooseWay(extents: Extents): Way {
    const [source, destination] = [this.#source, this.#destination];
    if (source.backing === undefined || destination.backing === undefined)
      return bouncing(source, destination);
    const from = { ...source, backing: source.backing };
    const to = { ...destination, backing: destination.backing };
    try {
      // With huge pages a mapping costs next to nothing, with 4 KiB ones a fault for every page that is written through it.
      if (memoryKind(from.ram, to.ram) !== "4k") return streaming(from, to);
      const longRuns = extents.totalPages >= extents.count * PAGES_PER_FAULT;
      return longRuns ? writing(from, to) : bouncing(from, to);
    } catch (error) {
      this.#onNote(`bytes go through a buffer: ${toMwarpError(error).message}`);
      return bouncing(source, destination);
    }
  }
}

type BackedSide = CopySide & { readonly backing: RamBacking };

function bouncing(source: CopySide, destination: CopySide): Way {
  return {
    slices: (extents) => cutSlices(extents, byAddress(source.ram), byAddress(destination.ram)),
    copy: ({ source: from, destination: to, pages }) =>
      copyBetween(source.pid, destination.pid, from.at, to.at, pages),
    [Symbol.dispose]: () => undefined,
  };
}

function writing(source: BackedSide, destination: CopySide): Way {
  const files = MemoryFiles.map(source.backing, "read");
  return {
    slices: (extents) => cutSlices(extents, byFile(source), byAddress(destination.ram)),
    copy: ({ source: { at, file }, destination: to, pages }) =>
      copyFromMapped({ files: files.mappings, file, offset: at }, destination.pid, to.at, pages),
    [Symbol.dispose]: () => files[Symbol.dispose](),
  };
}

function streaming(source: BackedSide, destination: BackedSide): Way {
  const from = MemoryFiles.map(source.backing, "read");
  const to = mapOrLetGo(destination.backing, from);
  return {
    slices: (extents) => cutSlices(extents, byFile(source), byFile(destination)),
    copy: ({ source: s, destination: d, pages }) =>
      copyBetweenMapped(
        { files: from.mappings, file: s.file, offset: s.at },
        { files: to.mappings, file: d.file, offset: d.at },
        pages,
      ),
    [Symbol.dispose]: () => {
      from[Symbol.dispose]();
      to[Symbol.dispose]();
    },
  };
}

function mapOrLetGo(backing: RamBacking, other: MemoryFiles): MemoryFiles {
  try {
    return MemoryFiles.map(backing, "write");
  } catch (error) {
    other[Symbol.dispose]();
    throw error;
  }
}

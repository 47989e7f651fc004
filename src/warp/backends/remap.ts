/**
 * The remap back end: both VMMs map the other's memory in place of their own, piece by piece, through the library
 * preloaded into them. No byte is touched. Used inside one stun; what backs guest RAM is read there, from the VMMs' maps.
 */
import { isMwarpError, MwarpError } from "../../errors.js";
import type { Hva } from "../../units.js";
import type { RamBacking } from "../../vm/backing.js";
import { fileKey, lookupBacking } from "../../vm/backing.js";
import type { MapExtents, VmmFile } from "../../vm/vmm-library.js";
import type { BackedRam } from "../backed-pieces.js";
import type { CompletedExchange, FrameExchanger } from "../backend.js";
import type { Extents } from "../extent-list.js";
import { type ExchangePieces, type SidePieces, splitByBacking } from "./exchange-pieces.js";

/** What is used of the library's client (VmmLibrary). Guest RAM has been told to it by `region` before. */
export interface MappingLibrary {
  open(path: string, options?: { signal?: AbortSignal }): Promise<VmmFile>;
  closeFile(handle: number): Promise<void>;
  /** All or none, on this side. */
  map(extents: MapExtents): Promise<void>;
}

export interface RemapSide {
  /** What backs the RAM now, read in this stun. */
  readonly now: BackedRam;
  readonly library: MappingLibrary;
  /** Reads the VMM's maps anew at each call; `now` may be of no more use then. */
  readonly backing: { read(): RamBacking };
}

/** One side in the course of an exchange: what is mapped there, and what is to be. */
interface Half {
  readonly side: RemapSide;
  readonly forward: MapExtents;
  readonly handles: readonly number[];
  readonly own: SidePieces;
}

export class RemapBackend implements FrameExchanger {
  readonly #source: RemapSide;
  readonly #destination: RemapSide;
  readonly #onBegin: (pieces: ExchangePieces) => void;

  /** @param onBegin called when all is ready and nothing was changed yet; when it throws, nothing will be */
  constructor(source: RemapSide, destination: RemapSide, onBegin: (pieces: ExchangePieces) => void) {
    this.#source = source;
    this.#destination = destination;
    this.#onBegin = onBegin;
  }

  async exchange(extents: Extents, signal?: AbortSignal): Promise<CompletedExchange> {
    const pieces = splitByBacking(extents, this.#source.now, this.#destination.now);
    const opened = await this.#openAll(pieces, signal);
    const source = makeHalf(this.#source, pieces, pieces.source, pieces.destination, opened.source);
    const destination = makeHalf(
      this.#destination,
      pieces,
      pieces.destination,
      pieces.source,
      opened.destination,
    );
    const halves = [source, destination];
    try {
      this.#onBegin(pieces);
    } catch (error) {
      await closeAll(halves);
      throw error;
    }
    // From here on the exchange is finished or undone: a cancel is not heard.
    const ends = await Promise.allSettled(halves.map((half) => half.side.library.map(half.forward)));
    const failures = ends.flatMap((end) => (end.status === "rejected" ? [end.reason] : []));
    if (failures.length > 0) {
      await this.#putBack(halves, ends, pieces);
      await closeAll(halves);
      throw new MwarpError("MWARP_E_WARP", `the exchange failed and was undone: ${messageOf(failures[0])}`, {
        cause: failures[0],
      });
    }
    return {
      pages: extents.totalPages,
      undo: async () => {
        await undoAll(halves);
      },
      release: async () => {
        await closeAll(halves);
      },
    };
  }

  /** Every file on both sides: for the new mapping, and for the old one in case of an undo. */
  async #openAll(
    pieces: ExchangePieces,
    signal: AbortSignal | undefined,
  ): Promise<{ source: number[]; destination: number[] }> {
    const source: number[] = [];
    const destination: number[] = [];
    try {
      for (const file of pieces.files) {
        source.push(await openChecked(this.#source.library, file, signal));
        destination.push(await openChecked(this.#destination.library, file, signal));
      }
      return { source, destination };
    } catch (error) {
      await closeHandles(this.#source.library, source);
      await closeHandles(this.#destination.library, destination);
      throw error;
    }
  }

  /** After a failure on one side or both: a side that refused has undone itself, one that did it must be undone. */
  async #putBack(
    halves: readonly Half[],
    ends: readonly PromiseSettledResult<void>[],
    pieces: ExchangePieces,
  ): Promise<void> {
    await undoAll(halves.filter((_, index) => ends[index].status === "fulfilled"));
    for (const [index, end] of ends.entries()) {
      if (end.status === "rejected" && !isUndone(end.reason, halves[index], pieces)) {
        throw new MwarpError(
          "MWARP_E_NEEDS_RECOVERY",
          `it is not known whether a VMM exchanged its memory: ${messageOf(end.reason)}`,
          { cause: end.reason },
        );
      }
    }
  }
}

/**
 * Whether the side that failed with `error` is as it was. A refusal says so itself; after a lost connection the maps
 * tell; a request without an answer may still be carried out later, so nothing is known.
 */
function isUndone(error: unknown, half: Half, pieces: ExchangePieces): boolean {
  if (isMwarpError(error, "MWARP_E_WARP")) return true;
  return isMwarpError(error, "MWARP_E_VM_UNREACHABLE") && isAsBefore(half, pieces);
}

/** In ascending HVA order, as the library demands. */
function makeHalf(
  side: RemapSide,
  pieces: ExchangePieces,
  own: SidePieces,
  other: SidePieces,
  handles: readonly number[],
): Half {
  const { count } = pieces;
  const order = Uint32Array.from({ length: count }, (_, index) => index).sort(
    (left, right) => own.hva[left] - own.hva[right],
  );
  const forward = {
    count,
    hva: new Float64Array(count),
    bytes: new Float64Array(count),
    offset: new Float64Array(count),
    handle: new Uint32Array(count),
    oldOffset: new Float64Array(count),
    oldHandle: new Uint32Array(count),
  };
  for (let index = 0; index < count; index++) {
    const piece = order[index];
    forward.hva[index] = own.hva[piece];
    forward.bytes[index] = pieces.bytes[piece];
    forward.offset[index] = other.offset[piece];
    forward.handle[index] = handles[other.file[piece]];
    forward.oldOffset[index] = own.offset[piece];
    forward.oldHandle[index] = handles[own.file[piece]];
  }
  return { side, forward, handles, own };
}

async function undoAll(halves: readonly Half[]): Promise<void> {
  const ends = await Promise.allSettled(
    halves.map(({ side, forward }) =>
      side.library.map({
        ...forward,
        offset: forward.oldOffset,
        handle: forward.oldHandle,
        oldOffset: forward.offset,
        oldHandle: forward.handle,
      }),
    ),
  );
  for (const [index, end] of ends.entries()) {
    if (end.status === "fulfilled" || isGone(halves[index])) continue;
    throw new MwarpError(
      "MWARP_E_NEEDS_RECOVERY",
      `the exchange could not be undone: ${messageOf(end.reason)}`,
      { cause: end.reason },
    );
  }
}

/** A VMM that has ended has no memory to be put back. */
function isGone({ side }: Half): boolean {
  try {
    side.backing.read();
    return false;
  } catch (error) {
    return isMwarpError(error, "MWARP_E_VM_UNREACHABLE");
  }
}

/** Whether the VMM's maps show the old backing everywhere. A VMM that is gone has no memory to be damaged. */
function isAsBefore(half: Half, pieces: ExchangePieces): boolean {
  let now: RamBacking;
  try {
    now = half.side.backing.read();
  } catch (error) {
    // Guest RAM with a hole in it is anything but as before.
    return isMwarpError(error, "MWARP_E_VM_UNREACHABLE");
  }
  const { own } = half;
  for (let piece = 0; piece < pieces.count; piece++) {
    let address = own.hva[piece];
    const end = address + pieces.bytes[piece];
    while (address < end) {
      const at = lookupBacking(now, address as Hva);
      if (at < 0) return false;
      const offset = now.offset[at] + (address - now.hva[at]);
      const expected = own.offset[piece] + (address - own.hva[piece]);
      const file = now.files[now.file[at]];
      if (offset !== expected || fileKey(file) !== fileKey(pieces.files[own.file[piece]])) return false;
      address = now.hva[at] + now.bytes[at];
    }
  }
  return true;
}

/** Opens by path, and makes sure that it is the file the maps named. */
async function openChecked(
  library: MappingLibrary,
  file: ExchangePieces["files"][number],
  signal: AbortSignal | undefined,
): Promise<number> {
  const opened = await library.open(file.path, signal === undefined ? {} : { signal });
  if (fileKey(opened) === fileKey(file)) return opened.handle;
  await closeHandles(library, [opened.handle]);
  throw new MwarpError("MWARP_E_WARP", `${file.path} is file ${fileKey(opened)}, not ${fileKey(file)}`);
}

async function closeAll(halves: readonly Half[]): Promise<void> {
  for (const { side, handles } of halves) await closeHandles(side.library, handles);
}

/** A handle that cannot be closed goes with the connection: nothing depends on it. */
async function closeHandles(library: MappingLibrary, handles: readonly number[]): Promise<void> {
  await Promise.allSettled(handles.map((handle) => library.closeFile(handle)));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

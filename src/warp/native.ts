/** The N-API addon (native/host): copying between two processes' memories, and freeing ranges of memory files. */
import { createRequire } from "node:module";
import * as z from "zod/mini";
import { MwarpError } from "../errors.js";

/** A mapping of a memory file in this process; only the addon can look into it. */
declare const mapping: unique symbol;
export interface NativeMapping {
  readonly [mapping]: true;
}

/** Where extents begin in mapped files: `file[i]` is an index into `files`, `offset[i]` bytes. */
export interface MappedPlaces {
  readonly files: readonly NativeMapping[];
  readonly file: Uint32Array;
  readonly offset: Float64Array;
}

interface Addon {
  punch(path: string, offset: number, bytes: number): string | null;
  copy(
    sourcePid: number,
    destinationPid: number,
    sourceAddresses: Float64Array,
    destinationAddresses: Float64Array,
    pages: Uint32Array,
  ): Promise<number>;
  mapFile(path: string, writable: boolean): NativeMapping | string;
  unmapFile(mapping: NativeMapping): void;
  copyMapped(
    sources: readonly NativeMapping[],
    sourceFile: Uint32Array,
    sourceOffset: Float64Array,
    destinations: readonly NativeMapping[],
    destinationFile: Uint32Array,
    destinationAt: Float64Array,
    destinationPid: number,
    pages: Uint32Array,
  ): Promise<number>;
}

/** From src/warp and from dist/warp alike. */
const ADDON = new URL("../../dist/native/warp-copy.node", import.meta.url);
let loaded: Addon | undefined;

function addon(): Addon {
  if (loaded === undefined) {
    try {
      loaded = createRequire(import.meta.url)(ADDON.pathname) as Addon;
    } catch (error) {
      throw new MwarpError("MWARP_E_INTERNAL", `cannot load ${ADDON.pathname}`, {
        cause: error,
        hint: "Build the native parts: make native.",
      });
    }
  }
  return loaded;
}

const CopyFailureSchema = z.object({ code: z.string(), side: z.string(), index: z.int() });

/**
 * Copies `pages[i]` 4 KiB pages from `sourceAddresses[i]` of one process to `destinationAddresses[i]` of the other, on a
 * thread of the pool, through a bounce buffer (process_vm_readv and process_vm_writev). Resolves to the bytes copied.
 * Throws MWARP_E_WARP with the error number, the side and the index of the extent; earlier extents are copied then.
 */
export async function copyBetween(
  sourcePid: number,
  destinationPid: number,
  sourceAddresses: Float64Array,
  destinationAddresses: Float64Array,
  pages: Uint32Array,
): Promise<number> {
  return copied(addon().copy(sourcePid, destinationPid, sourceAddresses, destinationAddresses, pages));
}

/**
 * The same straight from mapped files: the kernel reads the mapping and writes to addresses of the process. Where a page of
 * either cannot be had, the error names the destination.
 */
export async function copyFromMapped(
  source: MappedPlaces,
  destinationPid: number,
  destinationAddresses: Float64Array,
  pages: Uint32Array,
): Promise<number> {
  const none = new Uint32Array(pages.length);
  return copied(
    addon().copyMapped(
      source.files,
      source.file,
      source.offset,
      [],
      none,
      destinationAddresses,
      destinationPid,
      pages,
    ),
  );
}

/** The same from mapping to mapping, by stores that go past the caches. */
export async function copyBetweenMapped(
  source: MappedPlaces,
  destination: MappedPlaces,
  pages: Uint32Array,
): Promise<number> {
  const { files, file, offset } = destination;
  return copied(
    addon().copyMapped(source.files, source.file, source.offset, files, file, offset, process.pid, pages),
  );
}

async function copied(copying: Promise<number>): Promise<number> {
  try {
    return await copying;
  } catch (error) {
    const failure = CopyFailureSchema.safeParse(error);
    if (!failure.success) throw error;
    const { code, side, index } = failure.data;
    throw new MwarpError("MWARP_E_WARP", `copying extent ${index} failed on the ${side}: ${code}`, {
      cause: error,
    });
  }
}

/**
 * Maps a whole memory file into this process, to copy from it or, `writable`, to it as well.
 * @throws MWARP_E_WARP with the system's reason
 */
export function mapFile(path: string, access: "read" | "write"): NativeMapping {
  const mapped = addon().mapFile(path, access === "write");
  if (typeof mapped !== "string") return mapped;
  throw new MwarpError("MWARP_E_WARP", `cannot map ${path}: ${mapped}`);
}

/** Not while something is copied from or to it. */
export function unmapFile(mapped: NativeMapping): void {
  addon().unmapFile(mapped);
}

/**
 * Frees a range of a memory file, whoever has it open: fallocate(2) with FALLOC_FL_PUNCH_HOLE. Reads as zeros afterwards.
 * @throws MWARP_E_INTERNAL with the system's reason
 */
export function punchHole(path: string, offset: number, bytes: number): void {
  const failure = addon().punch(path, offset, bytes);
  if (failure !== null)
    throw new MwarpError("MWARP_E_INTERNAL", `cannot free ${bytes} bytes of ${path}: ${failure}`);
}

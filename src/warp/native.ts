/** The N-API addon (native/host): copying between two processes' memories, and the measurement of costs. */
import { createRequire } from "node:module";
import * as z from "zod/mini";
import { MwarpError } from "../errors.js";

/** One measurement: `pages` 4 KiB pages exchanged and copied in runs of `runPages`. */
export interface CostSample {
  readonly pages: number;
  readonly runPages: number;
  readonly remapNs: number;
  readonly touchNs: number;
  readonly copyNs: number;
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
  measure(
    pages: number,
    runPages: number,
    hostPageBytes: number,
  ): Omit<CostSample, "pages" | "runPages"> | null;
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
  try {
    return await addon().copy(sourcePid, destinationPid, sourceAddresses, destinationAddresses, pages);
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
 * Frees a range of a memory file, whoever has it open: fallocate(2) with FALLOC_FL_PUNCH_HOLE. Reads as zeros afterwards.
 * @throws MWARP_E_INTERNAL with the system's reason
 */
export function punchHole(path: string, offset: number, bytes: number): void {
  const failure = addon().punch(path, offset, bytes);
  if (failure !== null)
    throw new MwarpError("MWARP_E_INTERNAL", `cannot free ${bytes} bytes of ${path}: ${failure}`);
}

/** Null when such memory cannot be had (no huge pages reserved, or not enough memory). */
export function measureExchange(pages: number, runPages: number, hostPageBytes: number): CostSample | null {
  const sample = addon().measure(pages, runPages, hostPageBytes);
  return sample === null ? null : { pages, runPages, ...sample };
}

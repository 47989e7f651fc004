/** Counts what a lazy dump has left in the tasks. */
import { PAGE_BYTES } from "../units.js";
import { decodePagemap } from "./pagemap.js";

/**
 * Bytes of page contents that the images of a lazy dump do not hold: those its page server sends. Shared memory is not among them,
 * CRIU dumps it in full.
 * @throws MWARP_E_IMAGE for a pagemap that CRIU would not write
 */
export function lazyBytes(files: ReadonlyMap<string, Uint8Array>): number {
  let pages = 0;
  for (const [name, bytes] of files) {
    if (!/^pagemap-\d+\.img$/.test(name)) continue;
    for (const run of decodePagemap(name, bytes).runs) if (!run.present) pages += run.pages;
  }
  return pages * PAGE_BYTES;
}

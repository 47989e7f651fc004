/** Counts what a lazy dump has left in the tasks. */
import { MwarpError } from "../errors.js";
import { PAGE_BYTES } from "../units.js";
import { decodePagemap } from "./pagemap.js";

/** More than any guest has; a sum of pages that lie about their number must stay one that can be counted with. */
const MOST_BYTES = 2 ** 46;

/**
 * Bytes of page contents that the images of a lazy dump do not hold: those its page server sends. Shared memory is not among them,
 * CRIU dumps it in full.
 * @throws MWARP_E_IMAGE for a pagemap that CRIU would not write, and for more than a guest can have
 */
export function lazyBytes(files: ReadonlyMap<string, Uint8Array>): number {
  let pages = 0;
  for (const [name, bytes] of files) {
    if (!/^pagemap-\d+\.img$/.test(name)) continue;
    for (const run of decodePagemap(name, bytes).runs) if (!run.present) pages += run.pages;
  }
  const bytes = pages * PAGE_BYTES;
  if (bytes > MOST_BYTES) throw new MwarpError("MWARP_E_IMAGE", `a lazy dump of ${bytes} bytes`);
  return bytes;
}

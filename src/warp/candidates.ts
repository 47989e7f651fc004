/**
 * What could be remapped, in the pieces in which it would be: an extent of frames is one run in both guests, but after
 * earlier exchanges a patchwork of memory files in both VMMs. Each piece is one mmap in each VMM and costs that much time;
 * and only a piece knows how many more mappings a VMM would have after it (vm.max_map_count bounds them).
 */
import { HUGE_BYTES, PAGES_PER_HUGE } from "../units.js";
import { type BackedRam, type BackingCursor, forEachPiece } from "./backed-pieces.js";
import { type Extents, ExtentsBuilder } from "./extent-list.js";

/** Extents that lie in one mapping of each VMM, and what remapping each would add to their number. */
export interface Candidates extends Extents {
  /** Mappings that each piece adds at most, in the VMM where it adds more: 0, 1 or 2. */
  readonly newMappings: Uint8Array;
}

/**
 * A piece adds a mapping for each of its ends at which its VMM has no border between two mappings yet, and takes none
 * away but inside itself. So the sum over any pieces, in any order, bounds what a VMM has at the end and at any time before.
 * @throws MWARP_E_WARP for RAM without a backing
 */
export function cutByBacking(extents: Extents, source: BackedRam, destination: BackedRam): Candidates {
  const pieces = new ExtentsBuilder(extents.count);
  const added: number[] = [];
  forEachPiece(extents, source, destination, (from, to, pages, extent, offset) => {
    pieces.push(extents.sourceFrames[extent] + offset, extents.destinationFrames[extent] + offset, pages);
    added.push(Math.max(from.newBorders(pages), to.newBorders(pages)));
  });
  return { ...pieces.build(), newMappings: Uint8Array.from(added) };
}

/** Candidates of whole transparent huge pages of the host, and what is only a part of one on either side. */
export interface HugeCut {
  readonly whole: Candidates;
  readonly parts: Extents;
}

/**
 * Cuts at the borders of the host's huge pages. One that is exchanged as a whole stays one: the kernel maps it by one entry
 * wherever address and file offset lie alike within 2 MiB. To exchange a part takes it apart in both VMMs, for good, and all that
 * is left of it has to be mapped anew, page by page: copying the part costs less. What earlier exchanges put elsewhere within
 * its 2 MiB is none any more, and counts as parts.
 * @throws MWARP_E_WARP for RAM without a backing
 */
export function cutAtHugePages(extents: Extents, source: BackedRam, destination: BackedRam): HugeCut {
  const whole = new ExtentsBuilder();
  const parts = new ExtentsBuilder();
  const added: number[] = [];
  forEachPiece(extents, source, destination, (from, to, pages, extent, offset) => {
    const [first, second] = [
      extents.sourceFrames[extent] + offset,
      extents.destinationFrames[extent] + offset,
    ];
    const put = (into: ExtentsBuilder, at: number, count: number): void => {
      if (count > 0) into.push(first + at, second + at, count);
    };
    const head = Math.min(pages, pagesToHugePage(from, to));
    const middle = Math.floor((pages - head) / PAGES_PER_HUGE) * PAGES_PER_HUGE;
    put(parts, 0, head);
    put(whole, head, middle);
    put(parts, head + middle, pages - head - middle);
    if (middle > 0) added.push(Math.max(from.newBorders(middle, head), to.newBorders(middle, head)));
  });
  return { whole: { ...whole.build(), newMappings: Uint8Array.from(added) }, parts: parts.build() };
}

/** Pages up to the next border of a huge page; Infinity where the sides lie differently within theirs. */
function pagesToHugePage(from: BackingCursor, to: BackingCursor): number {
  const place = from.hva % HUGE_BYTES;
  const alike = [from.offset, to.hva, to.offset].every((position) => position % HUGE_BYTES === place);
  return alike
    ? (PAGES_PER_HUGE - (place / HUGE_BYTES) * PAGES_PER_HUGE) % PAGES_PER_HUGE
    : Number.POSITIVE_INFINITY;
}

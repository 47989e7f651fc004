/**
 * What could be remapped, in the pieces in which it would be: an extent of frames is one run in both guests, but after
 * earlier exchanges a patchwork of memory files in both VMMs. Each piece is one mmap in each VMM and costs that much time;
 * and only a piece knows how many more mappings a VMM would have after it (vm.max_map_count bounds them).
 */
import { type BackedRam, forEachPiece } from "./backed-pieces.js";
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

/**
 * Joins extents that are neighbours on both sides. The table is in the order of the container's addresses; memory that the
 * kernels handed out downwards, or that two areas got in turn, lies together in both guests all the same. The same pairs of
 * frames are exchanged, in fewer pieces.
 */
import { type Extents, ExtentsBuilder } from "./extent-list.js";
import type { RamMap } from "./ram-map.js";

/** Sorting that many takes 4 ms at most; more are memory in shreds, which is copied for the most part. */
const MAX_SORTED = 32_768;
/** Sort keys are source frame and index in one number below 2^53. */
const INDEX_BITS = 2 ** 20;

/**
 * The same pairs, in the order of the source's frames where anything was joined; as they are where there are too many. No
 * extent crosses a RAM region of either side.
 */
export function mergeNeighbours(extents: Extents, source: RamMap, destination: RamMap): Extents {
  const { count, sourceFrames, destinationFrames, pages } = extents;
  if (count < 2 || count > MAX_SORTED) return extents;
  const keys = new Float64Array(count);
  for (let index = 0; index < count; index++) keys[index] = sourceFrames[index] * INDEX_BITS + index;
  keys.sort();
  const merged = new ExtentsBuilder(count);
  let [first, firstTo, length] = [0, 0, 0];
  for (const key of keys) {
    const index = key % INDEX_BITS;
    const [from, to] = [sourceFrames[index], destinationFrames[index]];
    const adjoins = length > 0 && from === first + length && to === firstTo + length;
    if (adjoins && source.containsRun(first, length + 1) && destination.containsRun(firstTo, length + 1)) {
      length += pages[index];
      continue;
    }
    if (length > 0) merged.push(first, firstTo, length);
    [first, firstTo, length] = [from, to, pages[index]];
  }
  merged.push(first, firstTo, length);
  const built = merged.build();
  return built.count === count ? extents : built;
}

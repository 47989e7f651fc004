/** The table cut into runs of frames that are contiguous on both sides. */
import { PAGE_BYTES } from "../units.js";
import { type Extents, ExtentsBuilder } from "./extent-list.js";
import { mergeNeighbours } from "./merge.js";
import type { RamMap } from "./ram-map.js";
import { PageClass, type WarpTable } from "./table.js";

export interface ExtentSet {
  /** May be exchanged: exclusive, and aligned to host pages on both sides. */
  readonly exchangeable: Extents;
  /** Can only be copied. */
  readonly copyOnly: Extents;
}

/**
 * Cuts a complete table into extents; those to be exchanged are joined with their neighbours. An extent never crosses a RAM region on either side, so it is
 * contiguous in both VMMs. With 2 MiB host pages only whole, aligned pieces of 512 frames are exchangeable; heads, tails
 * and what is aligned differently on the two sides is copied.
 */
export function buildExtents(table: WarpTable): ExtentSet {
  const { sourceFrames, destinationFrames, classes, source, destination } = table;
  const granule = Math.max(source.hostPageBytes, destination.hostPageBytes) / PAGE_BYTES;
  const exclusive = new ExtentsBuilder();
  const copyOnly = new ExtentsBuilder();
  const total = classes.length;
  let position = 0;
  while (position < total) {
    const exchange = classes[position] === PageClass.exchange;
    const from = sourceFrames[position];
    const to = destinationFrames[position];
    const limit = Math.min(total - position, source.regionEnd(from) - from, destination.regionEnd(to) - to);
    let pages = 1;
    while (
      pages < limit &&
      sourceFrames[position + pages] === from + pages &&
      destinationFrames[position + pages] === to + pages &&
      (classes[position + pages] === PageClass.exchange) === exchange
    ) {
      pages++;
    }
    if (exchange) exclusive.push(from, to, pages);
    else copyOnly.push(from, to, pages);
    position += pages;
  }
  const merged = mergeNeighbours(exclusive.build(), source, destination);
  if (granule === 1) return { exchangeable: merged, copyOnly: copyOnly.build() };
  const exchangeable = new ExtentsBuilder();
  const alignment = { source, destination, granule, exchangeable, copyOnly };
  for (let index = 0; index < merged.count; index++)
    pushAligned(alignment, merged.sourceFrames[index], merged.destinationFrames[index], merged.pages[index]);
  return { exchangeable: exchangeable.build(), copyOnly: copyOnly.build() };
}

interface Alignment {
  readonly source: RamMap;
  readonly destination: RamMap;
  readonly granule: number;
  readonly exchangeable: ExtentsBuilder;
  readonly copyOnly: ExtentsBuilder;
}

/** Alignment is that of the HVA: what mmap demands, together with a file offset that a huge mapping makes congruent. */
function pushAligned(alignment: Alignment, from: number, to: number, pages: number): void {
  const { source, destination, granule, exchangeable, copyOnly } = alignment;
  const phase = (source.hvaOf(from) / PAGE_BYTES) % granule;
  if (phase !== (destination.hvaOf(to) / PAGE_BYTES) % granule) {
    copyOnly.push(from, to, pages);
    return;
  }
  const head = Math.min(pages, (granule - phase) % granule);
  const middle = Math.floor((pages - head) / granule) * granule;
  const tail = pages - head - middle;
  if (head > 0) copyOnly.push(from, to, head);
  if (middle > 0) exchangeable.push(from + head, to + head, middle);
  if (tail > 0) copyOnly.push(from + head + middle, to + head + middle, tail);
}

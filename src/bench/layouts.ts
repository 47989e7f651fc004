/** Random layouts of memory to be exchanged, the same for the same seed: what the planner is measured on. */
import { type Extents, ExtentsBuilder } from "../warp/extent-list.js";

export interface Layout {
  /** In words. */
  readonly name: string;
  /** Length of the next run, pages; `random` gives numbers from 0 to below 1. */
  readonly next: (random: () => number) => number;
  /** Share of all pages that are moved; the rest lies between the runs, 0 to 1. */
  readonly share: number;
}

const between = (low: number, high: number) => (random: () => number) =>
  low + Math.floor(random() * (high - low + 1));

const often = between(1, 8);
const seldom = between(1024, 4096);

/** On huge pages runs are multiples of 512 pages: that is how the table is cut there. */
export const hugeLayouts: readonly Layout[] = [
  { name: "runs of 2 MiB", next: () => 512, share: 1 },
  { name: "runs of 2 to 16 MiB", next: (random) => 512 * between(1, 8)(random), share: 1 },
];

export const baseLayouts: readonly Layout[] = [
  { name: "single pages", next: () => 1, share: 0.25 },
  { name: "runs of 1 to 64 pages", next: between(1, 64), share: 1 },
  { name: "runs of 256 to 2048 pages", next: between(256, 2048), share: 1 },
  {
    name: "long runs and short ones",
    next: (random) => (random() < 0.02 ? seldom(random) : often(random)),
    share: 1,
  },
];

/** Runs in ascending order on the source, in random order on the destination. */
export function drawExtents(layout: Layout, pages: number, seed: number): Extents {
  const random = generator(seed);
  const runs: number[] = [];
  for (let left = Math.floor(pages * layout.share); left > 0; ) {
    const run = Math.min(left, layout.next(random));
    runs.push(run);
    left -= run;
  }
  const source = placed(
    runs,
    runs.map((_, index) => index),
    pages,
    layout.share,
  );
  const destination = placed(runs, shuffled(runs.length, random), pages, layout.share);
  const extents = new ExtentsBuilder(runs.length);
  for (const [index, run] of runs.entries()) extents.push(source[index]!, destination[index]!, run);
  return extents.build();
}

/** Where each run begins when they are laid out in `order`, with gaps of the share that is not moved. */
function placed(runs: readonly number[], order: readonly number[], pages: number, share: number): number[] {
  const starts = new Array<number>(runs.length).fill(0);
  let moved = 0;
  let end = 0;
  for (const run of order) {
    const start = Math.max(end, Math.floor(moved / share));
    starts[run] = start;
    moved += runs[run]!;
    end = start + runs[run]!;
  }
  if (end > pages) throw new RangeError(`${pages} pages do not hold the layout`);
  return starts;
}

function shuffled(count: number, random: () => number): number[] {
  const order = Array.from({ length: count }, (_, index) => index);
  for (let index = count - 1; index > 0; index--) {
    const other = Math.floor(random() * (index + 1));
    [order[index], order[other]] = [order[other]!, order[index]!];
  }
  return order;
}

/** Marsaglia's xorshift, 32 bits. */
function generator(seed: number): () => number {
  let state = Math.imul(seed + 1, 0x9e3779b1) | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

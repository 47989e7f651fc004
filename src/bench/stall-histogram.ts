/** How long accesses to pages took, in buckets of a quarter of an octave: as native/bench/stalls.c counts them. */
import type { StallBucket } from "./records.js";

/** The first ns of a bucket, by its number. */
const beginOf = (bucket: number): number =>
  bucket < 4 ? bucket : (4 + (bucket % 4)) * 2 ** (Math.floor(bucket / 4) - 1);

/** @param counts pairs "BUCKET:COUNT" with spaces between them, as the program says them */
export const bucketsOf = (counts: string): StallBucket[] =>
  [...counts.matchAll(/(\d+):(\d+)/g)]
    .map(([, bucket, pages]) => ({
      from_ns: beginOf(Number(bucket)),
      to_ns: beginOf(Number(bucket) + 1),
      pages: Number(pages),
    }))
    .sort((a, b) => a.from_ns - b.from_ns);

/**
 * The time that this share of the pages did not exceed, ms, as if the pages of a bucket were spread evenly over it; null for no pages.
 * @param share above 0 and at most 1
 */
export function stallQuantile(buckets: readonly StallBucket[], share: number): number | null {
  const wanted = share * buckets.reduce((sum, { pages }) => sum + pages, 0);
  let below = 0;
  for (const { from_ns, to_ns, pages } of buckets) {
    if (pages > 0 && below + pages >= wanted)
      return (from_ns + ((wanted - below) / pages) * (to_ns - from_ns)) / 1e6;
    below += pages;
  }
  return null;
}

/** Of several runs together. */
export function addBuckets(histograms: readonly (readonly StallBucket[])[]): StallBucket[] {
  const sums = new Map<number, StallBucket>();
  for (const bucket of histograms.flat()) {
    const pages = bucket.pages + (sums.get(bucket.from_ns)?.pages ?? 0);
    sums.set(bucket.from_ns, { ...bucket, pages });
  }
  return [...sums.values()].sort((a, b) => a.from_ns - b.from_ns);
}

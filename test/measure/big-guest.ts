/** Guests as large as real ones. Of their memory there is what the host reads: page tables and struct pages. */
import { GIB, HUGE_BYTES, PAGE_BYTES, PAGES_PER_HUGE } from "../../src/units.js";
import type { SourceView } from "../../src/warp/physical-memory.js";
import { FakeGuest } from "../unit/warp/fake-guest.js";
import { HeldGuest } from "../unit/warp/held-guest.js";

export type Leaves = "scattered 4 KiB" | "ascending 4 KiB" | "2 MiB";

/** First wanted page of the one task. */
export const FIRST_PAGE = 512 ** 2 * 5;

export interface BigGuest {
  readonly held: HeldGuest;
  readonly view: SourceView;
}

/** @param seed of the order of the frames: two guests have theirs in different orders */
export async function bigGuest(gib: number, leaves: Leaves, seed: number): Promise<BigGuest> {
  const pages = (gib * GIB) / PAGE_BYTES;
  // An eighth of a fake guest is for tables and struct pages: what is wanted fits into the rest.
  const guest = new FakeGuest({ megabytes: gib * 1280 });
  const root = guest.task(1);
  if (leaves === "2 MiB")
    for (const [at, region] of shuffled(pages / PAGES_PER_HUGE, seed).entries()) {
      const head = (1 + region) * PAGES_PER_HUGE;
      guest.map(root, FIRST_PAGE + at * PAGES_PER_HUGE, head, undefined, 2);
      guest.setHugeFolio(head, 1);
    }
  else
    for (const [at, frame] of numbers(pages, leaves, seed).entries()) {
      guest.map(root, FIRST_PAGE + at, 1 + frame);
      guest.setHead(1 + frame, 1);
    }
  const from = (guest.layout.bytes / 8) * 7;
  const used = Math.ceil((guest.newTable() * PAGE_BYTES) / HUGE_BYTES) * HUGE_BYTES;
  const held = await HeldGuest.start(used, from);
  return { held, view: held.take(guest) };
}

const numbers = (count: number, leaves: Leaves, seed: number): Uint32Array =>
  leaves === "ascending 4 KiB" ? Uint32Array.from({ length: count }, (_, at) => at) : shuffled(count, seed);

/** The numbers below `count` in a random order that `seed` decides. */
function shuffled(count: number, seed: number): Uint32Array {
  const all = Uint32Array.from({ length: count }, (_, index) => index);
  let state = seed;
  for (let at = count - 1; at > 0; at--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = Math.floor((state / 2 ** 32) * (at + 1));
    const kept = all[at];
    all[at] = all[other];
    all[other] = kept;
  }
  return all;
}

/** The destination's half of a table: where each wanted page lies there, and that no two lie in one frame. */
import { MwarpError } from "../errors.js";
import { type Walk, walkWanted } from "./address-space-walk.js";
import { FrameSet } from "./frame-set.js";
import type { WantedPages } from "./page-ranges.js";
import { Leaf, type WalkOutput } from "./pagewalk.js";
import type { GuestView } from "./physical-memory.js";
import type { RamMap } from "./ram-map.js";

/** Written by the destination guest since it allocated the frame (I8), private to one leaf (checked: each frame once). */
export const DESTINATION_NEEDS = Leaf.present | Leaf.user | Leaf.writable | Leaf.dirty;

/** Throws MWARP_E_WARP as `walkWanted` does, and when two pages claim one frame (I2, I3). */
export function walkDestination(guest: GuestView, ram: RamMap, wanted: WantedPages, out: WalkOutput): Walk {
  const walk = walkWanted(guest, ram, wanted, out);
  const { frames, flags, stretches } = walk;
  const written = new FrameSet();
  for (let position = 0; position < frames.length; position += stretches[position]) {
    if ((flags[position] & DESTINATION_NEEDS) !== DESTINATION_NEEDS) continue;
    if (!written.addRun(frames[position], stretches[position])) throw claimedTwice(written, frames[position]);
  }
  return walk;
}

function claimedTwice(written: FrameSet, frame: number): MwarpError {
  let twice = frame;
  while (!written.has(twice)) twice++;
  return new MwarpError("MWARP_E_WARP", `destination frame ${twice} is mapped by two of the pages to move`);
}

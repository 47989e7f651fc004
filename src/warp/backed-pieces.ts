/** Extents of frames cut into pieces that lie in one mapping of either VMM: what one mmap can exchange (invariant I6). */
import { MwarpError } from "../errors.js";
import { type Hva, PAGE_BYTES } from "../units.js";
import { lookupBacking, type RamBacking } from "../vm/backing.js";
import type { Extents } from "./extent-list.js";
import type { RamMap } from "./ram-map.js";

/** One VM as read inside the stun. */
export interface BackedRam {
  readonly ram: RamMap;
  readonly backing: RamBacking;
}

/** A position in one VM's RAM, and the mapping behind it. */
export class BackingCursor {
  readonly backing: RamBacking;
  readonly #ram: RamMap;
  #mapping = 0;
  #hva = 0;

  constructor({ ram, backing }: BackedRam) {
    this.#ram = ram;
    this.backing = backing;
  }

  /** Address in the VMM. */
  get hva(): number {
    return this.#hva;
  }

  /** Where in its file the position lies. */
  get offset(): number {
    return this.backing.offset[this.#mapping] + (this.#hva - this.backing.hva[this.#mapping]);
  }

  /** Index of the mapping in the backing. */
  get mapping(): number {
    return this.#mapping;
  }

  /** Throws MWARP_E_WARP where nothing backs the frame. */
  enter(frame: number): void {
    this.#moveTo(this.#ram.hvaOf(frame));
  }

  advance(pages: number): void {
    this.#moveTo(this.#hva + pages * PAGE_BYTES);
  }

  pagesToEnd(): number {
    return (this.#end() - this.#hva) / PAGE_BYTES;
  }

  /** How many of the two ends of `pages` pages, `skip` pages ahead, lie in the middle of a mapping. */
  newBorders(pages: number, skip = 0): number {
    const first = skip === 0 && this.#hva === this.backing.hva[this.#mapping] ? 0 : 1;
    const last = skip + pages === this.pagesToEnd() ? 0 : 1;
    return first + last;
  }

  #end(): number {
    return this.backing.hva[this.#mapping] + this.backing.bytes[this.#mapping];
  }

  /** Addresses mostly ascend, so the last mapping is tried first. */
  #moveTo(address: number): void {
    this.#hva = address;
    if (address >= this.backing.hva[this.#mapping] && address < this.#end()) return;
    const found = lookupBacking(this.backing, address as Hva);
    if (found < 0)
      throw new MwarpError("MWARP_E_WARP", `nothing backs guest RAM at 0x${address.toString(16)}`);
    this.#mapping = found;
  }
}

/** Calls `visit` for each piece, in the extents' order, with both cursors at its start. */
export function forEachPiece(
  extents: Extents,
  source: BackedRam,
  destination: BackedRam,
  visit: (from: BackingCursor, to: BackingCursor, pages: number, extent: number, offset: number) => void,
): void {
  const from = new BackingCursor(source);
  const to = new BackingCursor(destination);
  for (let extent = 0; extent < extents.count; extent++) {
    from.enter(extents.sourceFrames[extent]);
    to.enter(extents.destinationFrames[extent]);
    const total = extents.pages[extent];
    for (let offset = 0; offset < total; ) {
      const pages = Math.min(total - offset, from.pagesToEnd(), to.pagesToEnd());
      visit(from, to, pages, extent, offset);
      offset += pages;
      if (offset === total) break;
      from.advance(pages);
      to.advance(pages);
    }
  }
}

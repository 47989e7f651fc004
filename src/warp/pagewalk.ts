/**
 * Walks x86-64 page tables in a paused guest's memory, over the wanted pages only, each table page read once.
 *
 * Entry layout: Intel SDM volume 3A, 4.5 (tables 4-14 to 4-20); arch/x86/include/asm/pgtable_types.h:
 *   bit 0 present, 1 writable, 2 user, 5 accessed, 6 dirty, 7 page size (leaf at levels 2 and 3, reserved above; PAT in
 *   a 4 KiB leaf), 12 PAT in a large leaf, 12..51 address, 52..63 ignored, protection key, no-execute.
 * What the processor takes for not present is not present here: swap, migration and PROT_NONE entries (Linux keeps the
 * last with bit 0 clear and bit 8 set), and a huge entry that is just being split.
 *
 * The guest may lie. Depth is fixed and pages ascend, so a table that points to itself or to an ancestor ends like any
 * other; every table must lie in RAM; reserved bits and too many reads are errors.
 */
import { MwarpError } from "../errors.js";
import { gpa, PAGE_BYTES } from "../units.js";
import type { PageTableLevels, PhysicalMemory } from "./physical-memory.js";
import type { RamMap } from "./ram-map.js";

/** What the walk says of one page. Rights are the effective ones, over all levels. */
export const Leaf = {
  present: 1,
  writable: 2,
  dirty: 4,
  accessed: 8,
  user: 16,
  /** Mapped by a 2 MiB or a 1 GiB entry. */
  huge2M: 32,
  huge1G: 64,
  /** First wanted page under its leaf: counting these counts leaves. */
  first: 128,
} as const;

const ENTRIES = 512;
const PRESENT = 1 << 0;
const WRITABLE = 1 << 1;
const USER = 1 << 2;
const ACCESSED = 1 << 5;
const DIRTY = 1 << 6;
const PAGE_SIZE = 1 << 7;
/** Address bits 44..51, in the high word: frame numbers have 32 bits here, so such an address is never RAM. */
const HIGH_BEYOND_RAM = 0xf_f000;
/** Bits 13..20 of a 2 MiB leaf and 13..29 of a 1 GiB leaf must be zero. */
const RESERVED_2M = 0x001f_e000;
const RESERVED_1G = 0x3fff_e000;

/** Where the results of one stretch of pages go. */
export interface WalkOutput {
  readonly frames: Uint32Array;
  readonly flags: Uint8Array;
  /**
   * At the first position of each stretch its pages, anything elsewhere. A stretch lies under one huge leaf, so its frames ascend, or
   * is not mapped, or is a single page; its flags are all the same, but for `Leaf.first`.
   */
  readonly stretches: Uint16Array;
}

/** Room for the results of `pages` pages. */
export const walkOutput = (pages: number): WalkOutput => ({
  frames: new Uint32Array(pages),
  flags: new Uint8Array(pages),
  stretches: new Uint16Array(pages),
});

/** The same for two threads. */
export const sharedWalkOutput = (pages: number): WalkOutput => ({
  frames: new Uint32Array(new SharedArrayBuffer(pages * 4)),
  flags: new Uint8Array(new SharedArrayBuffer(pages)),
  stretches: new Uint16Array(new SharedArrayBuffer(pages * 2)),
});

/** What maps a 2 MiB region of address space. */
type Mapping = "nothing" | "hugeLeaf" | "table";

export class PageTableWalker {
  readonly #memory: PhysicalMemory;
  readonly #ram: RamMap;
  readonly #levels: PageTableLevels;
  readonly #readLimit: number;
  /** The table held of each level, as bytes and as words; index is the level, 1 holds the 4 KiB leaves. */
  readonly #bytes: Uint8Array[];
  readonly #words: Uint32Array[];
  /** Which table of its level that is: the virtual address bits above it, as a number; -1 for none. */
  readonly #held: Float64Array;
  #reads = 0;
  // What #locate found: rights of the table or flags of the huge leaf, the leaf's first frame and first region.
  #flags = 0;
  #frame = 0;
  #leaf = 0;
  /** First region of the huge leaf that got its `Leaf.first` last: two runs may lie under one leaf. */
  #countedLeaf = -1;

  /** `readLimit` bounds the table pages read in the walker's life: an honest guest has no more tables than frames. */
  constructor(memory: PhysicalMemory, ram: RamMap, levels: PageTableLevels, readLimit: number = ram.frames) {
    this.#memory = memory;
    this.#ram = ram;
    this.#levels = levels;
    this.#readLimit = readLimit;
    this.#bytes = Array.from({ length: levels + 1 }, () => new Uint8Array(PAGE_BYTES));
    this.#words = this.#bytes.map((bytes) => new Uint32Array(bytes.buffer));
    this.#held = new Float64Array(levels + 1).fill(-1);
  }

  /** Table pages read so far. */
  get tableReads(): number {
    return this.#reads;
  }

  /** Turns to the address space rooted at `rootGpa`; throws MWARP_E_WARP when that is not a page of RAM. */
  open(rootGpa: number): void {
    if (rootGpa % PAGE_BYTES !== 0) throw invalid(`page-table root ${rootGpa} is not page-aligned`);
    this.#held.fill(-1);
    this.#countedLeaf = -1;
    this.#load(this.#levels, rootGpa / PAGE_BYTES, 0);
  }

  /**
   * Translates `pages` virtual pages from `startPage` on into `out`, from position `at`: frame and `Leaf` flags, both 0
   * for a page that is not present or whose frame is not RAM. Kernel pages are named by the low 48 or 57 address bits.
   */
  walk(startPage: number, pages: number, out: WalkOutput, at: number): void {
    if (startPage < 0 || startPage + pages > ENTRIES ** this.#levels) {
      throw invalid(`pages ${startPage}+${pages} lie outside a ${this.#levels}-level address space`);
    }
    const end = at + pages;
    let page = startPage;
    for (let position = at; position < end; ) {
      const region = Math.floor(page / ENTRIES);
      const slot = page - region * ENTRIES;
      const count = Math.min(end - position, ENTRIES - slot);
      const mapping = this.#locate(region);
      if (mapping === "table") this.#copyTable(slot, count, out, position);
      else if (mapping === "hugeLeaf") this.#copyHugeLeaf(region, slot, count, out, position);
      else clear(out, position, count);
      page += count;
      position += count;
    }
  }

  #locate(region: number): Mapping {
    let rights = WRITABLE | USER;
    for (let level: number = this.#levels; level >= 2; level--) {
      const span = ENTRIES ** (level - 2);
      const child = Math.floor(region / span);
      const word = (child % ENTRIES) * 2;
      const low = this.#words[level][word];
      const high = this.#words[level][word + 1];
      if ((low & PRESENT) === 0) return "nothing";
      rights &= low;
      if ((low & PAGE_SIZE) !== 0) {
        this.#leaf = child * span;
        return this.#decodeHugeLeaf(level, low, high, rights);
      }
      if (this.#held[level - 1] !== child) {
        if ((high & HIGH_BEYOND_RAM) !== 0) throw invalid("a page table lies above 2^44");
        this.#load(level - 1, frameOf(low, high), child);
      }
    }
    this.#flags = rightsOf(rights);
    return "table";
  }

  #decodeHugeLeaf(level: number, low: number, high: number, rights: number): Mapping {
    if (level > 3) throw invalid(`reserved page-size bit set at level ${level}`);
    if ((low & (level === 3 ? RESERVED_1G : RESERVED_2M)) !== 0) {
      throw invalid(`reserved address bits set in a huge leaf at level ${level}`);
    }
    if ((high & HIGH_BEYOND_RAM) !== 0) return "nothing";
    // Bit 12 is PAT in a huge leaf, not part of the address.
    this.#frame = (frameOf(low, high) & ~1) >>> 0;
    this.#flags = Leaf.present | rightsOf(rights) | stateOf(low) | (level === 3 ? Leaf.huge1G : Leaf.huge2M);
    return "hugeLeaf";
  }

  #copyHugeLeaf(region: number, slot: number, count: number, out: WalkOutput, at: number): void {
    const first = this.#frame + (region - this.#leaf) * ENTRIES + slot;
    if (!this.#ram.containsRun(first, count)) {
      clear(out, at, count);
      return;
    }
    for (let index = 0; index < count; index++) out.frames[at + index] = first + index;
    out.flags.fill(this.#flags, at, at + count);
    out.stretches[at] = count;
    if (this.#leaf !== this.#countedLeaf) out.flags[at] |= Leaf.first;
    this.#countedLeaf = this.#leaf;
  }

  /** The hot loop: up to 512 entries of the page table held, without objects or big integers. */
  #copyTable(slot: number, count: number, out: WalkOutput, at: number): void {
    const words = this.#words[1];
    const { frames, flags } = out;
    const tableRights = this.#flags;
    out.stretches.fill(1, at, at + count);
    for (let index = 0; index < count; index++) {
      const low = words[(slot + index) * 2];
      const high = words[(slot + index) * 2 + 1];
      const frame = frameOf(low, high);
      if ((low & PRESENT) === 0 || (high & HIGH_BEYOND_RAM) !== 0 || !this.#ram.contains(frame)) {
        frames[at + index] = 0;
        flags[at + index] = 0;
        continue;
      }
      frames[at + index] = frame;
      flags[at + index] = Leaf.present | Leaf.first | (tableRights & rightsOf(low)) | stateOf(low);
    }
  }

  #load(level: number, frame: number, child: number): void {
    if (!this.#ram.contains(frame)) throw invalid(`a level ${level} page table lies outside RAM`);
    if (this.#reads >= this.#readLimit) throw invalid(`more than ${this.#readLimit} page tables`);
    this.#reads++;
    // Not held while it is read: a failed read must not leave half a table behind.
    this.#held[level] = -1;
    this.#memory.read(gpa(frame * PAGE_BYTES), this.#bytes[level]);
    this.#held[level] = child;
  }
}

function frameOf(low: number, high: number): number {
  return ((low >>> 12) | ((high & 0xfff) << 20)) >>> 0;
}

function rightsOf(low: number): number {
  return ((low & WRITABLE) !== 0 ? Leaf.writable : 0) | ((low & USER) !== 0 ? Leaf.user : 0);
}

function stateOf(low: number): number {
  return ((low & DIRTY) !== 0 ? Leaf.dirty : 0) | ((low & ACCESSED) !== 0 ? Leaf.accessed : 0);
}

function clear(out: WalkOutput, at: number, count: number): void {
  out.frames.fill(0, at, at + count);
  out.flags.fill(0, at, at + count);
  out.stretches[at] = count;
}

function invalid(message: string): MwarpError {
  return new MwarpError("MWARP_E_WARP", `the guest's page tables are not usable: ${message}`);
}

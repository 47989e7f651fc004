/**
 * Reads the guest kernel's `struct page` of given frames: which folio a frame belongs to, and how many references hold it.
 * Sources: include/linux/mm_types.h (struct page), include/linux/page-flags.h (compound_head, PAGE_MAPPING_*).
 */
import { MwarpError } from "../errors.js";
import { FrameCounts, type FrameSet } from "./frame-set.js";
import { type KernelAddress, type KernelMemory, kernelAddress } from "./kernel-va.js";
import type { PageTableLevels, StructPageFacts } from "./physical-memory.js";

/** Frames per group; with 64-byte struct pages a group is one page of the array. */
const GROUP_FRAMES = 64;
/** Groups read at a time at most: 1 MiB with 64-byte struct pages. */
const BATCH_GROUPS = 256;
/** A folio has at most 1 GiB. */
const MAX_FOLIO_FRAMES = 2 ** 18;
/** Low bits of page->mapping (PAGE_MAPPING_FLAGS): anonymous is 01, KSM 11, movable 10, a file's address_space 00. */
const MAPPING_KIND_MASK = 3;

/** What a folio is, by its head's mapping word. */
export const FolioKind = {
  /** The head was not read, or is none. */
  unknown: 0,
  anonymous: 1,
  ksm: 2,
  /** Page cache, also of shared memory. */
  file: 3,
  /** No mapping: the zero page and the huge zero page; a driver's pages, too. */
  unmapped: 4,
} as const;

export class StructPages {
  readonly #kernel: KernelMemory;
  readonly #facts: StructPageFacts;
  readonly #base: KernelAddress;
  readonly #baseLow: number;
  readonly #baseHigh: number;
  /** Frame of the folio's head plus one; 0 unknown. */
  readonly #heads = new FrameCounts();
  /** _refcount of heads of anonymous folios; 0 for all others. */
  readonly #references = new FrameCounts();
  /** FolioKind of heads. */
  readonly #kinds = new FrameCounts();
  readonly #scratch: Uint8Array;
  readonly #words: Uint32Array;

  /** Throws MWARP_E_WARP when the facts cannot be right. */
  constructor(kernel: KernelMemory, levels: PageTableLevels, facts: StructPageFacts) {
    const base = checkFacts(facts);
    this.#kernel = kernel;
    this.#facts = facts;
    this.#base = kernelAddress(base, levels);
    this.#baseLow = Number(base & 0xffff_ffffn);
    this.#baseHigh = Number(base >> 32n);
    this.#scratch = new Uint8Array(BATCH_GROUPS * GROUP_FRAMES * facts.bytes);
    this.#words = new Uint32Array(this.#scratch.buffer);
  }

  /** Reads the struct pages of `frames`, in large pieces where they lie together. */
  read(frames: FrameSet): void {
    const batch: Group[] = [];
    const flush = (): void => {
      if (batch.length > 0) this.#readBatch(batch);
      batch.length = 0;
    };
    frames.forEachGroup((first, low, high) => {
      const last = batch.at(-1);
      if (last !== undefined && (first !== last.first + GROUP_FRAMES || batch.length === BATCH_GROUPS))
        flush();
      batch.push({ first, low, high });
    });
    flush();
  }

  /** Head of the folio that holds `frame`, or -1 when not known. */
  headOf(frame: number): number {
    return this.#heads.get(frame) - 1;
  }

  /** References to the anonymous folio headed by `head`; 0 when it is none, or not known. */
  referencesOf(head: number): number {
    return this.#references.get(head);
  }

  /** FolioKind of the folio headed by `head`. */
  kindOf(head: number): number {
    return this.#kinds.get(head);
  }

  #readBatch(batch: readonly Group[]): void {
    const first = batch[0].first;
    const bytes = batch.length * GROUP_FRAMES * this.#facts.bytes;
    const address = { page: this.#base.page, offset: this.#base.offset + first * this.#facts.bytes };
    if (this.#kernel.read(address, this.#scratch.subarray(0, bytes))) {
      for (const group of batch) this.#decodeGroup(group, first);
      return;
    }
    // A hole somewhere: group by group, so that the others keep their answer. What stays unknown is copied.
    if (batch.length > 1) for (const group of batch) this.#readBatch([group]);
  }

  #decodeGroup(group: Group, scratchFirst: number): void {
    const bytes = this.#facts.bytes;
    for (let index = 0; index < GROUP_FRAMES; index++) {
      const bits = index < 32 ? group.low : group.high;
      if ((bits & (1 << (index & 31))) === 0) continue;
      const frame = group.first + index;
      this.#decode(frame, (frame - scratchFirst) * bytes);
    }
  }

  #decode(frame: number, at: number): void {
    const words = this.#words;
    const { compoundHeadOffset, mappingOffset, refcountOffset } = this.#facts;
    const link = (at + compoundHeadOffset) >>> 2;
    if ((words[link] & 1) !== 0) {
      const head = this.#headFrame(words[link] - 1, words[link + 1]);
      if (head < frame && frame - head < MAX_FOLIO_FRAMES) this.#heads.set(frame, head + 1);
      return;
    }
    this.#heads.set(frame, frame + 1);
    const word = (at + mappingOffset) >>> 2;
    const kind = folioKind(words[word], words[word + 1]);
    this.#kinds.set(frame, kind);
    const references = words[(at + refcountOffset) >>> 2] | 0;
    if (kind === FolioKind.anonymous && references > 0) this.#references.set(frame, references);
  }

  /** Frame whose struct page lies at the given address; not a number when none does. */
  #headFrame(low: number, high: number): number {
    const distance = (high - this.#baseHigh) * 2 ** 32 + (low - this.#baseLow);
    const frame = distance / this.#facts.bytes;
    return Number.isSafeInteger(frame) && frame >= 0 ? frame : Number.NaN;
  }
}

function folioKind(low: number, high: number): number {
  switch (low & MAPPING_KIND_MASK) {
    case 1:
      return FolioKind.anonymous;
    case 3:
      return FolioKind.ksm;
    case 0:
      return (low | high) === 0 ? FolioKind.unmapped : FolioKind.file;
    default:
      return FolioKind.unknown;
  }
}

/** 64 frames and which of them are asked for. */
interface Group {
  readonly first: number;
  readonly low: number;
  readonly high: number;
}

function checkFacts(facts: StructPageFacts): bigint {
  const { bytes, compoundHeadOffset, mappingOffset, refcountOffset, vmemmapBase } = facts;
  const fits = (offset: number, width: number): boolean =>
    Number.isInteger(offset) && offset >= 0 && offset % width === 0 && offset + width <= bytes;
  const sizeFits = Number.isInteger(bytes) && bytes >= 32 && bytes <= 512 && bytes % 8 === 0;
  if (sizeFits && fits(compoundHeadOffset, 8) && fits(mappingOffset, 8) && fits(refcountOffset, 4)) {
    if (/^\d{19,20}$/.test(vmemmapBase)) {
      const base = BigInt(vmemmapBase);
      // Kernel addresses: bits 57..63 set, in 64 bits.
      if (base >> 57n === 0x7fn) return base;
    }
  }
  throw new MwarpError("MWARP_E_WARP", `struct page facts are not usable: ${JSON.stringify(facts)}`);
}

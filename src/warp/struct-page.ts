/**
 * Reads the guest kernel's `struct page` of given frames: which folio a frame belongs to, and how many references hold it.
 * Sources: include/linux/mm_types.h (struct page), include/linux/page-flags.h (compound_head, PAGE_MAPPING_*).
 */
import { MwarpError } from "../errors.js";
import { type FrameSet, FrameWords } from "./frame-set.js";
import { type KernelAddress, type KernelMemory, kernelAddress } from "./kernel-va.js";
import type { PagesOf, PageTableLevels, StructPageFacts } from "./physical-memory.js";

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

/**
 * What is known of a frame is one word, so that who asks about pages in any order misses the caches once for each and not
 * three times. 0 is nothing. A tail has TAIL in its low bits, above them how far its head lies before it. A head has its
 * FolioKind there, above it the references that no leaf has been found for.
 */
const KIND_BITS = 3;
const KIND_MASK = (1 << KIND_BITS) - 1;
const TAIL = KIND_MASK;
/** Never becomes 0: for what is not anonymous, for counts that cannot be right, for more leaves than references. */
const NEVER_LEFT = 2 ** (32 - KIND_BITS) - 1;

export class StructPages {
  readonly #kernel: KernelMemory;
  readonly #facts: StructPageFacts;
  readonly #base: KernelAddress;
  readonly #baseLow: number;
  readonly #baseHigh: number;
  readonly #known: FrameWords;
  readonly #fileReferences: number;
  readonly #scratch: Uint8Array;
  readonly #words: Uint32Array;

  /**
   * Throws MWARP_E_WARP when the facts cannot be right.
   * @param known where to keep what was read: all 0
   * @param pagesOf of image files, page cache counts as exclusive, too
   */
  constructor(
    kernel: KernelMemory,
    levels: PageTableLevels,
    facts: StructPageFacts,
    known = new FrameWords(),
    pagesOf: PagesOf = "tasks",
  ) {
    const base = checkFacts(facts);
    this.#kernel = kernel;
    this.#known = known;
    this.#facts = facts;
    this.#fileReferences = pagesOf === "imageFiles" ? 1 : NEVER_LEFT;
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

  /** Head of the folio that holds `frame`, or -1 when not known. The head itself may not have been read. */
  headOf(frame: number): number {
    const word = this.#known.get(frame);
    if ((word & KIND_MASK) === TAIL) return frame - (word >>> KIND_BITS);
    return word === 0 ? -1 : frame;
  }

  /** A leaf maps the folio headed by `head`: one of the references to it has been found. */
  countLeaf(head: number): void {
    const word = this.#known.get(head);
    if (word === 0 || (word & KIND_MASK) === TAIL) return;
    const left = word >>> KIND_BITS;
    if (left === NEVER_LEFT) return;
    this.#known.set(head, headWord(word & KIND_MASK, left === 0 ? NEVER_LEFT : left - 1));
  }

  /** Whether the folio headed by `head` has no references but the leaves that were counted, and that of an image file to its page. */
  isExclusive(head: number): boolean {
    const word = this.#known.get(head);
    return word === FolioKind.anonymous || word === FolioKind.file;
  }

  /** FolioKind of the folio headed by `head`. */
  kindOf(head: number): number {
    const kind = this.#known.get(head) & KIND_MASK;
    return kind === TAIL ? FolioKind.unknown : kind;
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
      const distance = frame - this.#headFrame(words[link] - 1, words[link + 1]);
      if (distance > 0 && distance < MAX_FOLIO_FRAMES)
        this.#known.set(frame, ((distance << KIND_BITS) | TAIL) >>> 0);
      return;
    }
    const word = (at + mappingOffset) >>> 2;
    const kind = folioKind(words[word], words[word + 1]);
    const references = words[(at + refcountOffset) >>> 2] | 0;
    // The page cache holds each page of a folio: of a larger one there are more references than leaves and one, and it is copied.
    const others =
      kind === FolioKind.anonymous ? 0 : kind === FolioKind.file ? this.#fileReferences : NEVER_LEFT;
    const sound = references > others && references < NEVER_LEFT;
    this.#known.set(frame, headWord(kind, sound ? references - others : NEVER_LEFT));
  }

  /** Frame whose struct page lies at the given address; not a number when none does. */
  #headFrame(low: number, high: number): number {
    const distance = (high - this.#baseHigh) * 2 ** 32 + (low - this.#baseLow);
    const frame = distance / this.#facts.bytes;
    return Number.isSafeInteger(frame) && frame >= 0 ? frame : Number.NaN;
  }
}

const headWord = (kind: number, left: number): number => ((left << KIND_BITS) | kind) >>> 0;

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

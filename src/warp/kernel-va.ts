/** Reads a paused guest's memory by kernel virtual address, through the kernel's own page tables. */
import { gpa, PAGE_BYTES } from "../units.js";
import { Leaf, PageTableWalker, walkOutput } from "./pagewalk.js";
import type { PageTableLevels, PhysicalMemory } from "./physical-memory.js";
import type { RamMap } from "./ram-map.js";

/** Pages translated at a time. */
const BATCH_PAGES = 512;

/** A kernel address without its sign extension: 57 bits do not fit a number, so page and offset are kept apart. */
export interface KernelAddress {
  readonly page: number;
  readonly offset: number;
}

/** Splits a 64-bit kernel virtual address. */
export function kernelAddress(address: bigint, levels: PageTableLevels): KernelAddress {
  return {
    page: Number(BigInt.asUintN(levels === 5 ? 57 : 48, address) / BigInt(PAGE_BYTES)),
    offset: Number(address % BigInt(PAGE_BYTES)),
  };
}

export class KernelMemory {
  readonly #memory: PhysicalMemory;
  readonly #ram: RamMap;
  readonly #walker: PageTableWalker;
  readonly #pages = walkOutput(BATCH_PAGES);

  constructor(memory: PhysicalMemory, ram: RamMap, levels: PageTableLevels, kernelRootGpa: number) {
    this.#memory = memory;
    this.#ram = ram;
    this.#walker = new PageTableWalker(memory, ram, levels);
    this.#walker.open(kernelRootGpa);
  }

  /** Fills `into` from `address` on; false when a part is not mapped to RAM (then `into` holds nothing of use). */
  read(address: KernelAddress, into: Uint8Array): boolean {
    let page = address.page + Math.floor(address.offset / PAGE_BYTES);
    let offset = address.offset % PAGE_BYTES;
    let done = 0;
    while (done < into.length) {
      const pages = Math.min(BATCH_PAGES, Math.ceil((offset + into.length - done) / PAGE_BYTES));
      this.#walker.walk(page, pages, this.#pages, 0);
      const bytes = Math.min(into.length - done, pages * PAGE_BYTES - offset);
      if (!this.#readPages(pages, offset, into.subarray(done, done + bytes))) return false;
      page += pages;
      offset = 0;
      done += bytes;
    }
    return true;
  }

  /** Reads the pages just translated; neighbours in physical memory go in one read. */
  #readPages(pages: number, offset: number, into: Uint8Array): boolean {
    let done = 0;
    for (let index = 0; index < pages; ) {
      const frame = this.#pages.frames[index];
      if ((this.#pages.flags[index] & Leaf.present) === 0) return false;
      let run = 1;
      while (index + run < pages && this.#pages.frames[index + run] === frame + run) run++;
      if (!this.#ram.containsRun(frame, run)) return false;
      const skip = index === 0 ? offset : 0;
      const bytes = Math.min(run * PAGE_BYTES - skip, into.length - done);
      this.#memory.read(gpa(frame * PAGE_BYTES + skip), into.subarray(done, done + bytes));
      done += bytes;
      index += run;
    }
    return true;
  }
}

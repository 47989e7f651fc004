/** A guest's memory and page-table roots as the warp core sees them: interfaces only, so a test's guest is a byte array. */
import type { Gpa } from "../units.js";
import type { MemoryLayout } from "../vm/types.js";

/** Read access to one guest's RAM while its processors are paused. */
export interface PhysicalMemory {
  /** Fills `into` with the bytes at `gpa`; throws when any of them is not RAM or cannot be read. */
  read(gpa: Gpa, into: Uint8Array): void;
}

/** Paging depth of a guest: 5 when LA57 is on. */
export type PageTableLevels = 4 | 5;

/** Page-table root of one task, named by its pid inside the container (the same on both sides). */
export interface AddressSpaceRoot {
  readonly nsPid: number;
  /** Its pid in the guest. */
  readonly pid: number;
  readonly rootGpa: number;
  /** Kernel virtual address of its task_struct, decimal. */
  readonly taskAddress: string;
}

/** Offsets in the guest kernel's task_struct and mm_struct, bytes. */
export interface TaskStructFacts {
  readonly pidOffset: number;
  readonly mmOffset: number;
  readonly mmPgdOffset: number;
}

/** All that is needed to find a container's pages in one paused guest. */
export interface GuestView {
  readonly memory: PhysicalMemory;
  readonly layout: MemoryLayout;
  readonly levels: PageTableLevels;
  readonly roots: readonly AddressSpaceRoot[];
  /** The kernel's own page-table root. */
  readonly kernelRootGpa: number;
  /** Kernel virtual address at which it maps physical address 0, decimal. */
  readonly directMapBase: string;
  readonly taskStruct: TaskStructFacts;
}

/** Where the guest kernel keeps its struct page array, and how one looks (GuestInfo.structPage). */
export interface StructPageFacts {
  /** Kernel virtual address of the struct page of frame 0, decimal. */
  readonly vmemmapBase: string;
  readonly bytes: number;
  readonly compoundHeadOffset: number;
  readonly mappingOffset: number;
  readonly refcountOffset: number;
}

/**
 * Whose pages are wanted: those of the container's tasks, or those of image files that the agent keeps mapped. Only of the latter may
 * a page of the page cache be given away: nobody reads the file again.
 */
export type PagesOf = "tasks" | "imageFiles";

/** The source guest: its kernel is asked, too, who else holds a frame. */
export interface SourceView extends GuestView {
  readonly structPage: StructPageFacts;
  readonly pagesOf?: PagesOf;
}

/**
 * Branded units. A number that means a page count cannot be passed where bytes or an address is expected.
 * Addresses are plain numbers below 2^53: a user-space virtual address and an HVA have at most 47 bits (56 with
 * five-level tables), a GPA at most 52. Kernel virtual addresses do not fit and are `bigint`.
 */
declare const brand: unique symbol;
type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** Guest physical address, bytes. */
export type Gpa = Brand<number, "Gpa">;
/** Address of guest memory in its VMM process, bytes. */
export type Hva = Brand<number, "Hva">;
/** Guest physical frame number (GPA / 4096). */
export type FrameNumber = Brand<number, "FrameNumber">;
/** Number of 4 KiB pages. */
export type PageCount = Brand<number, "PageCount">;
export type ByteCount = Brand<number, "ByteCount">;

export const PAGE_SHIFT = 12;
export const MIB = 1024 ** 2;
export const GIB = 1024 ** 3;
export const PAGE_BYTES = 4096;
/** 4 KiB pages in one 2 MiB huge page. */
export const PAGES_PER_HUGE = 512;
export const HUGE_BYTES = PAGE_BYTES * PAGES_PER_HUGE;

export const gpa = (value: number): Gpa => value as Gpa;
export const hva = (value: number): Hva => value as Hva;
export const pageCount = (value: number): PageCount => value as PageCount;
export const byteCount = (value: number): ByteCount => value as ByteCount;

/** A structure of the kernel, read at once: each read of its memory is a system call. */
import type { Kcore } from "./kcore.js";
import type { BitField } from "./layouts.js";

export class KernelObject {
  readonly #data: Buffer;

  /** @param at kernel virtual address */
  constructor(
    kcore: Kcore,
    readonly at: bigint,
    bytes: number,
  ) {
    this.#data = kcore.read(at, bytes);
  }

  u8(offset: number): number {
    return this.#data.readUInt8(offset);
  }

  u16(offset: number): number {
    return this.#data.readUInt16LE(offset);
  }

  /** In network order. */
  port(offset: number): number {
    return this.#data.readUInt16BE(offset);
  }

  u32(offset: number): number {
    return this.#data.readUInt32LE(offset);
  }

  word(offset: number): bigint {
    return this.#data.readBigUInt64LE(offset);
  }

  bits({ bit, bits }: BitField, from = 0): number {
    return (this.u16(from + (bit >> 3)) >> (bit & 7)) & ((1 << bits) - 1);
  }

  bytes(offset: number, count: number): number[] {
    return [...this.#data.subarray(offset, offset + count)];
  }

  /** Address of a part of it. */
  place(offset: number): bigint {
    return this.at + BigInt(offset);
  }
}

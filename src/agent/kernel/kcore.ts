/** Kernel memory through /proc/kcore: an ELF core whose segments also say how virtual addresses map to physical ones. */
import { closeSync, openSync, readSync } from "node:fs";
import { MwarpError } from "../../errors.js";

export interface KcoreSegment {
  readonly vaddr: bigint;
  readonly bytes: bigint;
  readonly offset: bigint;
  /** Null where the kernel names none (vmalloc, vmemmap). */
  readonly paddr: bigint | null;
}

const PT_LOAD = 1;
const NO_PADDR = 0xffff_ffff_ffff_ffffn;
const HEADER_BYTES = 64;
const PHDR_BYTES = 56;

/** The loadable segments of an ELF64 header with its program headers. */
export function parseSegments(head: Buffer): KcoreSegment[] {
  if (head.length < HEADER_BYTES || head.readUInt32BE(0) !== 0x7f454c46) {
    throw new MwarpError("MWARP_E_UNSUPPORTED", "/proc/kcore is no ELF file");
  }
  const phoff = Number(head.readBigUInt64LE(32));
  const count = head.readUInt16LE(56);
  const segments: KcoreSegment[] = [];
  for (let i = 0; i < count; i++) {
    const at = phoff + i * PHDR_BYTES;
    if (at + PHDR_BYTES > head.length) break;
    if (head.readUInt32LE(at) !== PT_LOAD) continue;
    const paddr = head.readBigUInt64LE(at + 24);
    segments.push({
      offset: head.readBigUInt64LE(at + 8),
      vaddr: head.readBigUInt64LE(at + 16),
      paddr: paddr === NO_PADDR ? null : paddr,
      bytes: head.readBigUInt64LE(at + 40),
    });
  }
  return segments;
}

export class Kcore {
  readonly segments: readonly KcoreSegment[];
  readonly #fd: number;

  constructor(path = "/proc/kcore") {
    this.#fd = openSync(path, "r");
    const head = Buffer.alloc(64 * 1024);
    this.segments = parseSegments(head.subarray(0, readSync(this.#fd, head, 0, head.length, 0)));
  }

  close(): void {
    closeSync(this.#fd);
  }

  #segment(vaddr: bigint): KcoreSegment {
    const segment = this.segments.find((s) => vaddr >= s.vaddr && vaddr < s.vaddr + s.bytes);
    if (!segment) {
      throw new MwarpError("MWARP_E_INTERNAL", `kernel address ${vaddr.toString(16)} is in no segment`);
    }
    return segment;
  }

  read(vaddr: bigint, bytes: number): Buffer {
    const segment = this.#segment(vaddr);
    const data = Buffer.alloc(bytes);
    if (readSync(this.#fd, data, 0, bytes, segment.offset + (vaddr - segment.vaddr)) !== bytes) {
      throw new MwarpError("MWARP_E_INTERNAL", `short read of kernel address ${vaddr.toString(16)}`);
    }
    return data;
  }

  readWord(vaddr: bigint): bigint {
    return this.read(vaddr, 8).readBigUInt64LE(0);
  }

  /** Physical address of a kernel address that is in the direct map or in the kernel image. */
  physical(vaddr: bigint): bigint {
    const segment = this.#segment(vaddr);
    if (segment.paddr === null) {
      throw new MwarpError("MWARP_E_INTERNAL", `kernel address ${vaddr.toString(16)} has no fixed frame`);
    }
    return segment.paddr + (vaddr - segment.vaddr);
  }
}

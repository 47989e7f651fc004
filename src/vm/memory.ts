/** Reads a guest's RAM through its VMM's address space, which follows every earlier remap by itself. */
import { closeSync, openSync, readSync } from "node:fs";
import { MwarpError } from "../errors.js";
import { type FrameNumber, type Gpa, type Hva, hva, PAGE_BYTES } from "../units.js";
import type { MemoryLayout, RamRegion } from "./types.js";

export class GuestMemory {
  readonly #fd: number;
  readonly #regions: readonly RamRegion[];
  #last: RamRegion;
  #open = true;

  /** @throws MWARP_E_VM_UNREACHABLE when the process is gone or may not be read. */
  constructor(pid: number, layout: MemoryLayout) {
    this.#regions = layout.regions;
    this.#last = layout.regions[0];
    try {
      this.#fd = openSync(`/proc/${pid}/mem`, "r");
    } catch (error) {
      throw new MwarpError("MWARP_E_VM_UNREACHABLE", `cannot open the memory of VMM process ${pid}`, {
        cause: error,
      });
    }
  }

  /**
   * Fills `into` with the bytes at `address`.
   * @throws MWARP_E_WARP when a byte of it is outside guest RAM: a guest's page table may say anything.
   */
  read(address: Gpa, into: Uint8Array): void {
    const from = this.#locate(address, into.byteLength);
    let done = 0;
    while (done < into.byteLength) {
      const got = readSync(this.#fd, into, done, into.byteLength - done, from + done);
      if (got === 0)
        throw new MwarpError("MWARP_E_WARP", `guest RAM at 0x${address.toString(16)} cannot be read`);
      done += got;
    }
  }

  /** Where a frame lies in the VMM. @throws MWARP_E_WARP when it is not guest RAM. */
  hvaOf(frame: FrameNumber): Hva {
    return this.#locate((frame * PAGE_BYTES) as Gpa, PAGE_BYTES);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #locate(address: Gpa, bytes: number): Hva {
    // Reads come in neighbourhoods: the last region is tried first.
    if (!holds(this.#last, address, bytes)) {
      const found = this.#regions.find((region) => holds(region, address, bytes));
      if (found === undefined) {
        throw new MwarpError("MWARP_E_WARP", `0x${address.toString(16)} + ${bytes} bytes is not guest RAM`);
      }
      this.#last = found;
    }
    return hva(this.#last.hva + (address - this.#last.gpa));
  }
}

const holds = (region: RamRegion, address: number, bytes: number): boolean =>
  address >= region.gpa && address + bytes <= region.gpa + region.bytes;

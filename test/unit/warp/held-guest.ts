/** A made-up guest in another process's memory, which is read like a VMM's. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { distFile } from "../../../src/paths.js";
import { byteCount, gpa, HUGE_BYTES, hva, MIB, PAGE_BYTES } from "../../../src/units.js";
import { GuestMemory } from "../../../src/vm/memory.js";
import type { MemoryLayout } from "../../../src/vm/types.js";
import type { SourceView } from "../../../src/warp/physical-memory.js";
import type { FakeGuest } from "./fake-guest.js";

/** In the VMM, where RAM begins that nobody reads. */
const NOWHERE = 0x1000_0000_0000;

export class HeldGuest implements AsyncDisposable {
  readonly layout: MemoryLayout;
  readonly #child: ChildProcess;
  readonly #address: number;
  readonly #memory: GuestMemory;

  private constructor(
    child: ChildProcess,
    address: number,
    readonly from: number,
    bytes: number,
  ) {
    this.#child = child;
    this.#address = address;
    const held = { gpa: gpa(from), hva: hva(address), bytes: byteCount(bytes - from) };
    const rest = { gpa: gpa(0), hva: hva(NOWHERE), bytes: byteCount(from) };
    this.layout = {
      regions: from === 0 ? [held] : [rest, held],
      bytes: byteCount(bytes),
      hostPageBytes: byteCount(PAGE_BYTES),
    };
    this.#memory = new GuestMemory(this.pid, this.layout);
  }

  /** @param from what lies below this GPA has an address in the process, and no memory; bytes, whole 2 MiB like `bytes` */
  static async start(bytes: number, from = 0): Promise<HeldGuest> {
    if (bytes % HUGE_BYTES !== 0 || from % HUGE_BYTES !== 0) throw new RangeError("not whole 2 MiB");
    const child = spawn(distFile("native", "mwarp-memory"), ["4k", String((bytes - from) / PAGE_BYTES)], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const { value } = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
    return new HeldGuest(child, Number.parseInt(String(value), 16), from, bytes);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** The guest as it is now. Its view is good until the next is taken in. */
  take(guest: FakeGuest): SourceView {
    const fd = openSync(`/proc/${this.pid}/mem`, "r+");
    const piece = new Uint8Array(MIB);
    const held = this.layout.bytes - this.from;
    for (let at = 0; at < held; at += MIB) {
      guest.read(gpa(this.from + at), piece);
      writeSync(fd, piece, 0, MIB, this.#address + at);
    }
    closeSync(fd);
    return { ...guest.sourceView, memory: this.#memory, layout: this.layout };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#memory.close();
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await ended;
  }
}

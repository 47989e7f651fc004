/** Processes that stand for VMMs: a shared memory file each, and obedience to a library's few requests (holder.c). */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect } from "vitest";
import { MwarpError } from "../../../src/errors.js";
import { byteCount, gpa, hva, PAGE_BYTES } from "../../../src/units.js";
import { BackingReader } from "../../../src/vm/backing.js";
import type { MemoryLayout } from "../../../src/vm/types.js";
import type { MapExtents, VmmFile } from "../../../src/vm/vmm-library.js";
import type { RemapSide } from "../../../src/warp/backends/remap.js";
import { type Extents, ExtentsBuilder } from "../../../src/warp/extent-list.js";
import { RamMap } from "../../../src/warp/ram-map.js";

const root = path.resolve(import.meta.dirname, "../../..");
/** Pages of a holder's memory. */
export const PAGES = 4096;
let folder = "";

/** From rows of source frame, destination frame, pages. */
export function extentsOf(rows: readonly (readonly [number, number, number])[]): Extents {
  const builder = new ExtentsBuilder(2);
  for (const [source, destination, pages] of rows) builder.push(source, destination, pages);
  return builder.build();
}

/** A process that stands for a VMM: a shared memfd, mapped, each page filled with its own number and the seed. */
export class MemoryHolder implements AsyncDisposable {
  private constructor(
    readonly child: ChildProcess,
    readonly layout: MemoryLayout,
    readonly fd: number,
    /** Lines of the process; those who wait for one get theirs in the order in which they asked. */
    private readonly lines: AsyncIterator<string>,
  ) {}

  static async start(seed: number): Promise<MemoryHolder> {
    const child = spawn(path.join(folder, "holder"), [String(PAGES), String(seed)], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const line = await nextLine(lines);
    const bytes = byteCount(PAGES * PAGE_BYTES);
    const layout = {
      regions: [{ gpa: gpa(0), hva: hva(Number.parseInt(line, 16)), bytes }],
      bytes,
      hostPageBytes: byteCount(PAGE_BYTES),
    };
    return new MemoryHolder(child, layout, openSync(`/proc/${child.pid}/mem`, "r+"), lines);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get ram(): RamMap {
    return new RamMap(this.layout);
  }

  /** The first word of a page: page number and seed, as filled. */
  word(frame: number): string {
    const into = Buffer.alloc(PAGE_BYTES);
    readSync(this.fd, into, 0, PAGE_BYTES, this.layout.regions[0].hva + frame * PAGE_BYTES);
    const first = into.readBigUInt64LE(0);
    // A torn page does not count as any page.
    for (let at = 0; at < PAGE_BYTES; at += 8) if (into.readBigUInt64LE(at) !== first) return "torn";
    return `${first >> 32n}:${first & 0xffff_ffffn}`;
  }

  write(frame: number, bytes: Uint8Array): void {
    writeSync(this.fd, bytes, 0, bytes.length, this.layout.regions[0].hva + frame * PAGE_BYTES);
  }

  /** Sends a request and gives its answer. Several may be under way. */
  ask(request: string): Promise<string> {
    this.child.stdin?.write(`${request}\n`);
    return nextLine(this.lines);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    closeSync(this.fd);
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill("SIGKILL");
    await ended;
  }
}

/** Asks the holder to map, as the library in a VMM would; `failNextMap` makes it fail before it does anything. */
export class HolderLibrary {
  readonly opened = new Map<number, string>();
  failNextMap: Error | null = null;

  constructor(readonly holder: MemoryHolder) {}

  async open(file: string): Promise<VmmFile> {
    const [handle, major, minor, inode, bytes] = (await this.holder.ask(`open ${file}`))
      .split(" ")
      .map(Number);
    this.opened.set(handle, file);
    return { handle, pageBytes: PAGE_BYTES, major, minor, inode, bytes };
  }

  async closeFile(handle: number): Promise<void> {
    this.opened.delete(handle);
    await this.holder.ask(`close ${handle}`);
  }

  async map(extents: MapExtents): Promise<void> {
    const failure = this.failNextMap;
    this.failNextMap = null;
    if (failure !== null) throw failure;
    for (let index = 0; index < extents.count; index++) {
      if (index > 0) expect(extents.hva[index]).toBeGreaterThan(extents.hva[index - 1]);
      const numbers = [
        extents.hva[index],
        extents.bytes[index],
        extents.handle[index],
        extents.offset[index],
      ];
      const answer = await this.holder.ask(`map ${numbers.join(" ")}`);
      if (answer !== "ok") throw new MwarpError("MWARP_E_WARP", answer);
    }
  }
}

/** One side of an exchange between holders: what backs it is read here, so it is good for one exchange. */
export function remapSide(holder: MemoryHolder, library = new HolderLibrary(holder)): RemapSide {
  const backing = new BackingReader(holder.pid, holder.layout);
  return { now: { ram: holder.ram, backing: backing.read() }, library, backing };
}

async function nextLine(lines: AsyncIterator<string>): Promise<string> {
  const { value, done } = await lines.next();
  if (done === true) throw new Error("the memory holder ended");
  return value;
}

/** Builds what the holders need, for the tests of a file. */
export function useHolders(): void {
  beforeAll(() => {
    execFileSync("make", ["-s", "dist/native/warp-copy.node"], { cwd: root, stdio: "inherit" });
    folder = mkdtempSync(path.join(tmpdir(), "mwarp-unit-"));
    const source = path.join(import.meta.dirname, "holder.c");
    execFileSync("gcc", ["-O2", "-Wall", "-Wextra", "-Werror", "-o", path.join(folder, "holder"), source]);
  }, 60_000);

  afterAll(() => rmSync(folder, { recursive: true, force: true }));
}

/** A VMM that gives memory back by file offset must not hit the pages that lie at that offset since an exchange. */
import { execFileSync, spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { byteCount, hva, PAGE_BYTES } from "../../../src/units.js";
import { type MapExtents, type VmmFile, VmmLibrary } from "../../../src/vm/vmm-library.js";
import { builtLibrary } from "./paused-qemu.js";

let directory: string;
let holders: Holder[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "mwarp-discard-"));
  const program = join(directory, "holder");
  execFileSync("gcc", [
    "-O1",
    "-D_FILE_OFFSET_BITS=64",
    "-o",
    program,
    join(import.meta.dirname, "memory-holder.c"),
  ]);
  holders = [new Holder(program, 0xaa), new Holder(program, 0xbb)];
});
afterEach(() => {
  for (const holder of holders) holder.end();
  rmSync(directory, { recursive: true, force: true });
});

class Holder {
  readonly #child;
  readonly #lines;
  readonly #socket: string;
  address = 0;
  library: VmmLibrary | undefined;

  constructor(program: string, fill: number) {
    this.#socket = join(directory, `${fill}.sock`);
    this.#child = spawn(program, [String(fill)], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { LD_PRELOAD: builtLibrary(), MWARP_VMM_SOCKET: this.#socket },
    });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  get path(): string {
    const start = this.address.toString(16);
    return `/proc/${this.#child.pid}/map_files/${start}-${(this.address + 15 * PAGE_BYTES).toString(16)}`;
  }

  async start(): Promise<VmmLibrary> {
    this.address = Number.parseInt((await this.#lines.next()).value ?? "", 16);
    await sleep(10);
    this.library = await VmmLibrary.connect(this.#socket);
    await this.library.region(hva(this.address), byteCount(15 * PAGE_BYTES));
    return this.library;
  }

  /** Gives pages of its own file back; page 0 of the file is not mapped. Returns the errno. */
  async punch(filePage: number, pages: number): Promise<number> {
    this.#child.stdin.write(`punch ${filePage * PAGE_BYTES} ${pages * PAGE_BYTES}\n`);
    return Number((await this.#lines.next()).value);
  }

  /** First byte of each mapped page. */
  bytes(): number[] {
    const fd = openSync(`/proc/${this.#child.pid}/mem`, "r");
    const byte = new Uint8Array(1);
    const seen = Array.from({ length: 15 }, (_, page) => {
      readSync(fd, byte, 0, 1, this.address + page * PAGE_BYTES);
      return byte[0];
    });
    closeSync(fd);
    return seen;
  }

  end(): void {
    this.library?.close();
    this.#child.kill("SIGKILL");
  }
}

const onePage = (holder: Holder, page: number, theirs: VmmFile, own: VmmFile): MapExtents => ({
  count: 1,
  hva: Float64Array.of(holder.address + page * PAGE_BYTES),
  bytes: Float64Array.of(PAGE_BYTES),
  offset: Float64Array.of((page + 1) * PAGE_BYTES),
  handle: Uint32Array.of(theirs.handle),
  oldOffset: Float64Array.of((page + 1) * PAGE_BYTES),
  oldHandle: Uint32Array.of(own.handle),
});

/** Pages at these indexes have the value, all others `rest`. */
const picture = (rest: number, ...others: [number, number][]): number[] => {
  const bytes = new Array<number>(15).fill(rest);
  for (const [page, value] of others) bytes[page] = value;
  return bytes;
};

test("before any exchange a hole is a hole", async () => {
  const [a] = holders;
  await a.start();
  expect(await a.punch(3, 2)).toBe(0);
  expect(a.bytes()).toEqual(picture(0xaa, [2, 0], [3, 0]));
});

test("after an exchange a hole is torn into what the VMM itself has there, never into the other's pages", async () => {
  const [a, b] = holders;
  const [libraryA, libraryB] = [await a.start(), await b.start()];
  const [pathA, pathB] = [a.path, b.path];
  const ofA = { own: await libraryA.open(pathA), theirs: await libraryA.open(pathB) };
  const ofB = { own: await libraryB.open(pathB), theirs: await libraryB.open(pathA) };
  await libraryA.map(onePage(a, 5, ofA.theirs, ofA.own));
  await libraryB.map(onePage(b, 5, ofB.theirs, ofB.own));
  expect([a.bytes(), b.bytes()]).toEqual([picture(0xaa, [5, 0xbb]), picture(0xbb, [5, 0xaa])]);

  // File pages 5 to 7 of a are its pages 4 to 6; page 5 is b's by now.
  expect(await a.punch(5, 3)).toBe(0);
  expect(a.bytes()).toEqual(picture(0xaa, [4, 0], [5, 0], [6, 0]));
  expect(b.bytes()).toEqual(picture(0xbb, [5, 0xaa]));

  // From the unmapped head of the file on.
  expect(await b.punch(0, 2)).toBe(0);
  expect(b.bytes()).toEqual(picture(0xbb, [0, 0], [5, 0xaa]));
});

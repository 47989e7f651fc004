/** The preloaded library against whatever may come out of its socket: the VMM lives, and its RAM is RAM. */
import { createHash } from "node:crypto";
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from "node:fs";
import { connect } from "node:net";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BackingReader, backingPiece, fileKey } from "../../../src/vm/backing.js";
import { isAlive } from "../../../src/vm/process.js";
import type { MemoryLayout } from "../../../src/vm/types.js";
import { type VmmFile, VmmLibrary } from "../../../src/vm/vmm-library.js";
import { patience, runs } from "../../support/long.js";
import { PausedQemu } from "./paused-qemu.js";

const PAGE = 4096;
const FILE_PAGES = (32 * 1024 * 1024) / PAGE;
const HEADER_BYTES = 24;
const MAGIC = 0x5657574d;
const VERSION = 1;
const MAP = 5;
const OPEN = 2;

function message(type: number, count: number, body: Uint8Array, bodyBytes = body.length): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt16LE(VERSION, 4);
  header.writeUInt16LE(type, 6);
  header.writeUInt32LE(1, 8);
  header.writeUInt32LE(count, 16);
  header.writeUInt32LE(bodyBytes >>> 0, 20);
  return Buffer.concat([header, body]);
}

/** A page of a memory file, often one of the last, where not everything fits. */
const filePage = (): fc.Arbitrary<number> =>
  fc.oneof(fc.nat(FILE_PAGES - 50), fc.integer({ min: FILE_PAGES - 50, max: FILE_PAGES }));

/** A VMM with what it looks like from outside. */
class Watched {
  /** Its memory file, held open so that what is in it can be read whatever is mapped. */
  readonly #file: number;
  readonly path: string;

  private constructor(
    readonly qemu: PausedQemu,
    readonly layout: MemoryLayout,
  ) {
    this.path = new BackingReader(qemu.endpoint.pid, layout).read().files[0]!.path;
    this.#file = openSync(this.path, "r");
  }

  static async start(): Promise<Watched> {
    const qemu = await PausedQemu.start({ memory: "32M" });
    const watched = new Watched(qemu, await qemu.layout());
    for (const [index, { hva, bytes }] of watched.layout.regions.entries())
      qemu.poke(hva, new Uint8Array(Math.min(bytes, 65536)).fill(0x51 + index));
    return watched;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    closeSync(this.#file);
    await this.qemu[Symbol.asyncDispose]();
  }

  /** Pieces of its RAM; throws when a part of it is not there, not shared or not writable. */
  pieces(): ReturnType<typeof backingPiece>[] {
    const backing = new BackingReader(this.qemu.endpoint.pid, this.layout).read();
    return Array.from({ length: backing.count }, (_, index) => backingPiece(backing, index));
  }

  /** What is mapped of files outside RAM, to the byte: memory put where it does not belong would be in it. */
  elsewhere(): string[] {
    const maps = readFileSync(`/proc/${this.qemu.endpoint.pid}/maps`, "utf8").trimEnd().split("\n");
    return maps.flatMap((line) => {
      const [range = "", rights, offset = "", device, inode] = line.split(/ +/);
      const [start = 0, end = 0] = range.split("-").map((address) => Number.parseInt(address, 16));
      if (inode === "0") return [];
      return this.#outside(start, end).map(([from, to]) => {
        const at = Number.parseInt(offset, 16) + (from - start);
        return `${from}-${to} ${rights} ${at} ${device} ${inode}`;
      });
    });
  }

  /** The parts of a range that are not RAM. */
  #outside(start: number, end: number): [number, number][] {
    let parts: [number, number][] = [[start, end]];
    for (const { hva, bytes } of this.layout.regions)
      parts = parts
        .flatMap(([from, to]): [number, number][] => [
          [from, Math.min(to, hva)],
          [Math.max(from, hva + bytes), to],
        ])
        .filter(([from, to]) => from < to);
    return parts;
  }

  /** Of all that is in its memory file. */
  digest(): string {
    const hash = createHash("sha1");
    const buffer = Buffer.alloc(1 << 20);
    for (let at = 0, read = -1; read !== 0; at += read) {
      read = readSync(this.#file, buffer, 0, buffer.length, at);
      hash.update(buffer.subarray(0, read));
    }
    return hash.digest("hex");
  }
}

describe("the library in a VMM", () => {
  let vm: Watched;
  let other: Watched;
  let files: VmmFile[];
  /** Of both; nothing may change them. */
  let contents: string[];
  let elsewhere: string[];

  beforeAll(async () => {
    [vm, other] = await Promise.all([Watched.start(), Watched.start()]);
    using library = await VmmLibrary.connect(vm.qemu.endpoint.vmmSocket!);
    for (const region of vm.layout.regions) await library.region(region.hva, region.bytes);
    files = [await library.open(vm.path), await library.open(other.path)];
    contents = [vm.digest(), other.digest()];
    elsewhere = vm.elsewhere();
  });
  afterAll(async () => {
    for (const each of [vm, other]) await each[Symbol.asyncDispose]();
  });

  const outcomes = { mapped: 0, refused: 0 };

  /** Sends bytes on a connection of their own, waits until the library has dropped it, and counts its answers to MAP. */
  async function send(bytes: Uint8Array): Promise<void> {
    const socket = connect(vm.qemu.endpoint.vmmSocket!);
    // A reset is an answer, too: the library drops a client whose words make no sense with the rest of them unread.
    socket.on("error", () => undefined);
    const answers: Buffer[] = [];
    socket.on("data", (data: Buffer) => answers.push(data));
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.end(bytes);
    await closed;
    const all = Buffer.concat(answers);
    for (let at = 0; at + HEADER_BYTES <= all.length; at += HEADER_BYTES + all.readUInt32LE(at + 20)) {
      if (all.readUInt16LE(at + 6) !== MAP) continue;
      if (all.readInt32LE(at + 12) === 0) outcomes.mapped++;
      else outcomes.refused++;
    }
  }

  const word = fc.oneof(fc.constantFrom(0, 1, 4096, 2 ** 31, 2 ** 32 - 1), fc.nat(2 ** 32 - 1));
  const handle = fc.oneof(fc.constantFrom(0, 1, 2, 255, 256, 2 ** 32 - 1), word);
  const anyAddress = fc.oneof(
    fc.nat(2 ** 20).map((page) => page * PAGE),
    fc.maxSafeInteger().map(Math.abs),
  );
  interface Extent {
    hva: number;
    bytes: number;
    offset: number;
    oldOffset: number;
    handle: number;
    oldHandle: number;
  }
  const numbers = {
    hva: anyAddress,
    bytes: word,
    offset: anyAddress,
    oldOffset: anyAddress,
    handle,
    oldHandle: handle,
  };
  const steps = fc.array(
    fc.record({
      ...{ skip: fc.nat(300), pages: fc.integer({ min: 1, max: 40 }) },
      ...{ from: fc.nat(1), to: fc.nat(1), page: filePage(), oldPage: filePage() },
    }),
    { maxLength: 20 },
  );
  /** What a daemon could ask for: pages of RAM in ascending order, each to be backed by some page of either file. */
  const valid = fc.tuple(fc.nat(1), fc.boolean(), fc.nat(100), steps).map(([index, atEnd, left, list]) => {
    const region = vm.layout.regions[index]!;
    const wanted = list.reduce((sum, { skip, pages }) => sum + skip + pages, left - 10);
    // The last of them may go a little too far: over the end of RAM here, of the file above.
    let page = atEnd ? Math.max(0, region.bytes / PAGE - wanted) : 0;
    return list.map(({ skip, pages, from, to, page: at, oldPage }): Extent => {
      const start = page + skip;
      page = start + pages;
      return {
        hva: region.hva + start * PAGE,
        bytes: pages * PAGE,
        offset: at * PAGE,
        oldOffset: oldPage * PAGE,
        handle: to,
        oldHandle: from,
      };
    });
  });
  /** The same with one number wrong. */
  const nearlyValid = fc
    .tuple(
      valid,
      fc.nat(),
      fc.record(numbers),
      fc.constantFrom(...(Object.keys(numbers) as (keyof Extent)[])),
    )
    .map(([list, index, wrong, key]) =>
      list.map((one, at) => (at === index % list.length ? { ...one, [key]: wrong[key] } : one)),
    );
  const anything = fc.array(fc.record(numbers), { maxLength: 20 });
  const extents = fc
    .oneof({ weight: 3, arbitrary: valid }, { weight: 2, arbitrary: nearlyValid }, anything)
    .map((list) => {
      const body = Buffer.alloc(list.length * 40);
      for (const [index, one] of list.entries()) {
        const at = index * 40;
        body.writeBigUInt64LE(BigInt(one.hva), at);
        body.writeBigUInt64LE(BigInt(one.bytes), at + 8);
        body.writeBigUInt64LE(BigInt(one.offset), at + 16);
        body.writeBigUInt64LE(BigInt(one.oldOffset), at + 24);
        body.writeUInt32LE(one.handle, at + 32);
        body.writeUInt32LE(one.oldHandle, at + 36);
      }
      return message(MAP, list.length, body);
    });
  const paths = fc
    .constantFrom(
      "/etc/passwd",
      "/dev/zero",
      "/proc/self/mem",
      "/",
      "",
      "/nowhere",
      "x".repeat(255),
      "x".repeat(300),
    )
    .map((file) => message(OPEN, 0, Buffer.from(file)));
  const lies = fc
    .tuple(fc.nat(8), word, fc.uint8Array({ maxLength: 200 }), word)
    .map(([type, count, body, bytes]) => message(type, count, body, bytes));
  const noise = fc.uint8Array({ maxLength: 400 });

  it(
    "drops what is no message, refuses what it may not do, and serves the next client",
    async () => {
      const open = (path: string): Buffer => message(OPEN, 0, Buffer.from(path));
      // By descriptor: a path of map_files is gone once that range is mapped anew.
      const opened = Buffer.concat([
        open(`/proc/self/fd/${memoryFd(vm)}`),
        open(`/proc/${other.qemu.endpoint.pid}/fd/${memoryFd(other)}`),
      ]);
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.oneof(extents, extents, paths, lies, noise), { maxLength: 4 }),
          async (parts) => {
            await send(Buffer.concat([opened, ...parts]));
          },
        ),
        { numRuns: runs(600) },
      );
      expect(outcomes.mapped).toBeGreaterThan(20);
      expect(outcomes.refused).toBeGreaterThan(20);

      expect([isAlive(vm.qemu.endpoint), isAlive(other.qemu.endpoint)]).toEqual([true, true]);
      using library = await VmmLibrary.connect(vm.qemu.endpoint.vmmSocket!);
      expect(library.pid).toBe(vm.qemu.endpoint.pid);
      const sizes = new Map(files.map((file) => [fileKey(file), file.bytes]));
      const pieces = vm.pieces();
      expect(new Set(pieces.map(({ file }) => fileKey(file)))).toEqual(new Set(sizes.keys()));
      for (const { offset, bytes, file } of pieces)
        expect(offset + bytes).toBeLessThanOrEqual(sizes.get(fileKey(file))!);
      expect(vm.elsewhere()).toEqual(elsewhere);
      expect(other.pieces().map(({ file }) => fileKey(file))).toEqual([
        fileKey(files[1]!),
        fileKey(files[1]!),
      ]);
      expect([vm.digest(), other.digest()]).toEqual(contents);
      expect(await vm.qemu.qmp.execute("query-status")).toMatchObject({ running: false });
    },
    patience,
  );
});

/** Number of the descriptor that QEMU has of its memory file. */
function memoryFd({ qemu }: Watched): string {
  const directory = `/proc/${qemu.endpoint.pid}/fd`;
  const found = readdirSync(directory).find((fd) =>
    /memory-backend-memfd/.test(readlinkSync(`${directory}/${fd}`)),
  );
  if (found === undefined) throw new Error("QEMU has no memory file open");
  return found;
}

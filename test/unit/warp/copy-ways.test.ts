/** The copy back end on real memory of each kind: each takes its own way, and all must be right. */
import { execFileSync } from "node:child_process";
import { closeSync, openSync, readSync, truncateSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { memoryKinds } from "../../../src/protocol/costs.js";
import { PAGE_BYTES } from "../../../src/units.js";
import { CopyBackend, type CopySide } from "../../../src/warp/backends/copy.js";
import type { Extents } from "../../../src/warp/extent-list.js";
import { MemoryPair } from "../../../src/warp/measure/memory-pair.js";
import type { MemoryProcess } from "../../../src/warp/measure/memory-process.js";
import { copyBetweenMapped, copyFromMapped, mapFile, unmapFile } from "../../../src/warp/native.js";
import { extentsOf } from "./memory-holder.js";

const PAGES = 4096;
const signal = AbortSignal.timeout(60_000);

beforeAll(() => {
  const root = path.resolve(import.meta.dirname, "../../..");
  const parts = ["warp-copy.node", "mwarp-memory", "libmwarp-vmm.so"].map((name) => `dist/native/${name}`);
  execFileSync("make", ["-s", ...parts], { cwd: root, stdio: "inherit" });
}, 60_000);

const sideOf = (memory: MemoryProcess): CopySide => ({
  pid: memory.pid,
  ram: memory.ram,
  backing: memory.backing.read(),
});

/** For each page whose it was, and which: "PID:PAGE", or "torn". */
function contents({ pid, layout }: MemoryProcess): string[] {
  const fd = openSync(`/proc/${pid}/mem`, "r");
  const bytes = Buffer.alloc(PAGES * PAGE_BYTES);
  for (let at = 0; at < bytes.length; at += 2 ** 20)
    readSync(fd, bytes, at, Math.min(2 ** 20, bytes.length - at), layout.regions[0]!.hva + at);
  closeSync(fd);
  return Array.from({ length: PAGES }, (_, page) => {
    const first = bytes.readBigUInt64LE(page * PAGE_BYTES);
    for (let at = 0; at < PAGE_BYTES; at += 8)
      if (bytes.readBigUInt64LE(page * PAGE_BYTES + at) !== first + BigInt(at)) return "torn";
    return `${first >> 40n}:${(first & 0xff_ffff_ffffn) / BigInt(PAGE_BYTES)}`;
  });
}

/** What the destination should hold after the extents were copied into it. */
function after(extents: Extents, from: readonly string[], to: readonly string[]): string[] {
  const expected = [...to];
  for (let index = 0; index < extents.count; index++)
    for (let page = 0; page < extents.pages[index]!; page++)
      expected[extents.destinationFrames[index]! + page] = from[extents.sourceFrames[index]! + page]!;
  return expected;
}

const short = extentsOf(
  Array.from({ length: 700 }, (_, index) => [index * 3, (index * 177) % PAGES, 1] as const),
);
const long = extentsOf([
  [100, 2000, 1500],
  [3000, 10, 600],
]);

describe.each(memoryKinds)("copying memory of kind %s", (kind) => {
  it.each([
    ["single pages", short],
    ["long runs", long],
  ])("brings %s to their places, and touches no other", async (_name, extents) => {
    await using pair = await MemoryPair.start(kind, PAGES, signal);
    // No huge pages are reserved here.
    if (pair === null) return;
    const [from, to] = [contents(pair.source), contents(pair.destination)];
    const notes: string[] = [];
    const backend = new CopyBackend(sideOf(pair.source), sideOf(pair.destination), {
      threads: 2,
      onNote: (note) => notes.push(note),
    });
    expect(await backend.copy(extents)).toBe(extents.totalPages * PAGE_BYTES);
    expect(contents(pair.destination)).toEqual(after(extents, from, to));
    expect(contents(pair.source)).toEqual(from);
    expect(notes).toEqual([]);
  });

  it("ends with an error, and not with SIGBUS, when the file has become shorter", async () => {
    await using pair = await MemoryPair.start(kind, PAGES, signal);
    if (pair === null) return;
    const backend = new CopyBackend(sideOf(pair.source), sideOf(pair.destination));
    const { path: file } = pair.source.backing.read().files[0]!;
    // Mapped while it was whole, and mapped after that.
    const mapped = mapFile(file, "write");
    truncateSync(file, (PAGES / 2) * PAGE_BYTES);
    const end = { files: [mapped], file: Uint32Array.of(0), offset: Float64Array.of(PAGES * 3072) };
    const begin = { ...end, offset: Float64Array.of(0) };
    const one = Uint32Array.of(1);
    const there = Float64Array.of(pair.destination.layout.regions[0]!.hva);
    for (const copying of [
      () => copyBetweenMapped(end, begin, one),
      () => copyBetweenMapped(begin, end, one),
      () => copyFromMapped(end, pair.destination.pid, there, one),
      () => backend.copy(long),
    ])
      await expect(copying()).rejects.toThrow(/EFAULT/);
    unmapFile(mapped);
  });

  it("says so when a VMM has ended meanwhile", async () => {
    const pair = await MemoryPair.start(kind, PAGES, signal);
    if (pair === null) return;
    const notes: string[] = [];
    const backend = new CopyBackend(sideOf(pair.source), sideOf(pair.destination), {
      onNote: (note) => notes.push(note),
    });
    await pair[Symbol.asyncDispose]();
    await expect(backend.copy(long)).rejects.toThrow(/ESRCH/);
    expect(notes).toEqual([expect.stringMatching(/^bytes go through a buffer: /)]);
  });

  it("is cancelled before the next piece of work", async () => {
    await using pair = await MemoryPair.start(kind, PAGES, signal);
    if (pair === null) return;
    const to = contents(pair.destination);
    const backend = new CopyBackend(sideOf(pair.source), sideOf(pair.destination));
    await expect(backend.copy(long, AbortSignal.abort())).rejects.toMatchObject({
      code: "MWARP_E_CANCELLED",
    });
    expect(contents(pair.destination)).toEqual(to);
  });
});

describe("copying after an exchange", () => {
  it.each(["4k", "thp"] as const)("follows what backs the RAM now: %s", async (kind) => {
    await using pair = await MemoryPair.start(kind, PAGES, signal);
    if (pair === null) throw new Error("no memory");
    const moved = extentsOf([
      [50, 700, 300],
      [2048, 1024, 512],
    ]);
    const exchange = await pair.exchange(moved, signal);
    const [from, to] = [contents(pair.source), contents(pair.destination)];
    const extents = extentsOf([
      [0, 600, 500],
      [1900, 1400, 800],
    ]);
    await new CopyBackend(sideOf(pair.source), sideOf(pair.destination)).copy(extents);
    expect(contents(pair.destination)).toEqual(after(extents, from, to));
    await exchange.release();
  });
});

describe("mappings", () => {
  it("are refused where they are none, where an extent lies outside, and where they must not be written to", async () => {
    await using pair = await MemoryPair.start("4k", PAGES, signal);
    if (pair === null) throw new Error("no memory");
    const { path: file } = pair.source.backing.read().files[0]!;
    const mapped = mapFile(file, "write");
    const readOnly = mapFile(file, "read");
    const at = (files: (typeof mapped)[], offset: number, index = 0) => ({
      files,
      file: Uint32Array.of(index),
      offset: Float64Array.of(offset),
    });
    const copy = (from: ReturnType<typeof at>, to: ReturnType<typeof at>, pages = 1) =>
      copyBetweenMapped(from, to, Uint32Array.of(pages));
    const good = at([mapped], 0);
    for (const wrong of [
      () => copy(at([mapped], PAGES * PAGE_BYTES), good),
      () => copy(at([mapped], -PAGE_BYTES), good),
      () => copy(at([mapped], 5), good),
      () => copy(at([mapped], Number.NaN), good),
      () => copy(at([mapped], 0, 1), good),
      () => copy(at([], 0), good),
      () => copy(at([{} as typeof mapped], 0), good),
      () => copy(good, at([readOnly], 0)),
      () => copy(good, at([mapped], (PAGES - 1) * PAGE_BYTES), 2),
      () => copy(good, good, 0),
    ])
      await expect(wrong()).rejects.toBeInstanceOf(TypeError);
    const running = copy(good, at([mapped], 2 ** 20), 256);
    expect(() => unmapFile(mapped)).toThrow("is being copied");
    expect(await running).toBe(2 ** 20);
    unmapFile(mapped);
    unmapFile(readOnly);
    await expect(copy(good, good)).rejects.toBeInstanceOf(TypeError);
    expect(() => mapFile("/no/such/file", "read")).toThrow("ENOENT");
  });
});

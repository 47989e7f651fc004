import { statSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BackingReader } from "../../../src/vm/backing.js";
import { RemapBackend } from "../../../src/warp/backends/remap.js";
import { freeOrphanedMemory, gaps } from "../../../src/warp/orphaned-memory.js";
import { extentsOf, HolderLibrary, MemoryHolder, PAGES, remapSide, useHolders } from "./memory-holder.js";

useHolders();

/** Exchanges the first `pages` frames of two holders. */
async function exchange(a: MemoryHolder, b: MemoryHolder, pages: number): Promise<void> {
  const done = await new RemapBackend(remapSide(a), remapSide(b), () => undefined).exchange(
    extentsOf([[0, 0, pages]]),
  );
  await done.release();
}

describe("the memory of a VM that has ended", () => {
  it("is freed but for what another VM maps, and that keeps every byte", async () => {
    await using survivor = await MemoryHolder.start(1);
    const ended = await MemoryHolder.start(2);
    await exchange(survivor, ended, 100);
    const { path } = new BackingReader(survivor.pid, survivor.layout)
      .read()
      .files.find(({ path }) => statSync(path).ino === statSync(`/proc/${ended.pid}/fd/3`).ino)!;

    expect(freeOrphanedMemory([survivor, ended])).toBe(0);
    await ended[Symbol.asyncDispose]();
    expect(statSync(path).blocks).toBe(PAGES * 8);
    expect(freeOrphanedMemory([survivor])).toBe(PAGES * 4096);
    expect(statSync(path).blocks).toBe(100 * 8);
    for (let frame = 0; frame < 100; frame++) expect(survivor.word(frame)).toBe(`2:${frame}`);
    for (let frame = 100; frame < PAGES; frame += 37) expect(survivor.word(frame)).toBe(`1:${frame}`);
    expect(freeOrphanedMemory([survivor])).toBe(0);
  });

  it("is freed in a living VM's file too, where the ended one alone had mapped it", async () => {
    await using survivor = await MemoryHolder.start(1);
    const ended = await MemoryHolder.start(2);
    await exchange(survivor, ended, 100);
    const own = `/proc/${survivor.pid}/fd/3`;
    await ended[Symbol.asyncDispose]();
    expect(statSync(own).blocks).toBe(PAGES * 8);
    freeOrphanedMemory([survivor]);
    expect(statSync(own).blocks).toBe((PAGES - 100) * 8);
    for (let frame = 0; frame < PAGES; frame += 13)
      expect(survivor.word(frame)).toBe(`${frame < 100 ? 2 : 1}:${frame}`);
  });

  it("that another process has open is left alone", async () => {
    await using survivor = await MemoryHolder.start(1);
    const ended = await MemoryHolder.start(2);
    await exchange(survivor, ended, 100);
    await using reader = await MemoryHolder.start(3);
    await new HolderLibrary(reader).open(`/proc/${ended.pid}/fd/3`);
    await ended[Symbol.asyncDispose]();
    expect(freeOrphanedMemory([survivor])).toBe(100 * 4096);
  });

  it("that a VM maps which nobody told us of stays too", async () => {
    await using survivor = await MemoryHolder.start(1);
    await using stranger = await MemoryHolder.start(3);
    const ended = await MemoryHolder.start(2);
    await exchange(survivor, ended, 10);
    // The stranger gets frames 0..9 of the survivor, which are the ended VM's: all of them are still mapped somewhere.
    await exchange(stranger, survivor, 10);
    await exchange(survivor, ended, 20);
    await ended[Symbol.asyncDispose]();
    freeOrphanedMemory([survivor]);
    for (let frame = 0; frame < 10; frame++) expect(stranger.word(frame)).toBe(`2:${frame}`);
    for (let frame = 10; frame < 20; frame++) expect(survivor.word(frame)).toBe(`2:${frame}`);
  });
});

describe("gaps", () => {
  const range = fc.record({ offset: fc.nat(40), bytes: fc.integer({ min: 1, max: 12 }) });

  it("are exactly the bytes that no range covers", () => {
    fc.assert(
      fc.property(fc.array(range, { maxLength: 8 }), fc.nat(48), (ranges, size) => {
        const covered = (at: number) =>
          ranges.some(({ offset, bytes }) => at >= offset && at < offset + bytes);
        const expected = Array.from({ length: size }, (_, at) => at).filter((at) => !covered(at));
        const found = gaps(ranges, size).flatMap(({ offset, bytes }) =>
          Array.from({ length: bytes }, (_, index) => offset + index),
        );
        expect(found).toEqual(expected);
      }),
    );
  });
});

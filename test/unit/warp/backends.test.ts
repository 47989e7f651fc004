import { describe, expect, it } from "vitest";
import { MwarpError } from "../../../src/errors.js";
import { PAGE_BYTES } from "../../../src/units.js";
import type { CompletedExchange } from "../../../src/warp/backend.js";
import { CopyBackend } from "../../../src/warp/backends/copy.js";
import { RemapBackend } from "../../../src/warp/backends/remap.js";
import { execute } from "../../../src/warp/execute.js";
import { type Extents, NO_EXTENTS } from "../../../src/warp/extent-list.js";
import { copyBetween } from "../../../src/warp/native.js";
import { RamMap } from "../../../src/warp/ram-map.js";
import { extentsOf, HolderLibrary, MemoryHolder, PAGES, remapSide, useHolders } from "./memory-holder.js";

useHolders();

describe("the copy back end", () => {
  it("copies scattered pages and long runs between two processes, and leaves all others alone", async () => {
    await using source = await MemoryHolder.start(1);
    await using destination = await MemoryHolder.start(2);
    const rows: [number, number, number][] = [[100, 2000, 700]];
    for (let index = 0; index < 90; index++) rows.push([index, 300 + index * 3, 1]);
    const extents = extentsOf(rows);
    const backend = new CopyBackend(source, destination, { threads: 2 });
    expect(await backend.copy(extents)).toBe(790 * PAGE_BYTES);
    const expected = new Map(
      rows.flatMap(([from, to, pages]) =>
        Array.from({ length: pages }, (_, index) => [to + index, from + index] as const),
      ),
    );
    for (let frame = 0; frame < PAGES; frame++) {
      const from = expected.get(frame);
      expect(destination.word(frame)).toBe(from === undefined ? `2:${frame}` : `1:${from}`);
      expect(source.word(frame)).toBe(`1:${frame}`);
    }
  });

  it("counts every byte when several threads copy many slices", async () => {
    await using source = await MemoryHolder.start(1);
    await using destination = await MemoryHolder.start(2);
    const rows = Array.from({ length: 12 }, () => [0, 0, PAGES] as const);
    const backend = new CopyBackend(source, destination, { threads: 4 });
    expect(await backend.copy(extentsOf(rows))).toBe(12 * PAGES * PAGE_BYTES);
  });

  it("names the error, the side and the extent when memory is not mapped", async () => {
    await using source = await MemoryHolder.start(1);
    const start = source.layout.regions[0].hva;
    const sources = Float64Array.of(start, start, start);
    const destinations = Float64Array.of(start, PAGE_BYTES, start);
    const copying = copyBetween(source.pid, source.pid, sources, destinations, Uint32Array.of(3, 1, 2));
    await expect(copying).rejects.toThrow("copying extent 1 failed on the destination: EFAULT");
  });

  it("says so when a process is gone", async () => {
    const holder = await MemoryHolder.start(1);
    const { pid, layout } = holder;
    await holder[Symbol.asyncDispose]();
    const side = { pid, ram: new RamMap(layout) };
    await expect(new CopyBackend(side, side).copy(extentsOf([[0, 0, 1]]))).rejects.toThrow(/ESRCH/);
  });

  it("stops between slices when it is cancelled", async () => {
    await using source = await MemoryHolder.start(1);
    const copying = new CopyBackend(source, source).copy(extentsOf([[0, 0, 1]]), AbortSignal.abort());
    await expect(copying).rejects.toMatchObject({ code: "MWARP_E_CANCELLED" });
  });

  const one = Float64Array.of(PAGE_BYTES);
  it.each([
    ["an odd address", [1, 1, Float64Array.of(5), one, Uint32Array.of(1)]],
    ["an address that is no number", [1, 1, Float64Array.of(Number.NaN), one, Uint32Array.of(1)]],
    ["an address in the kernel's half", [1, 1, Float64Array.of(2 ** 56), one, Uint32Array.of(1)]],
    ["a run that leaves user space", [1, 1, Float64Array.of(2 ** 56 - 4096), one, Uint32Array.of(2)]],
    ["an empty extent", [1, 1, one, one, Uint32Array.of(0)]],
    ["arrays of different lengths", [1, 1, one, one, Uint32Array.of(1, 1)]],
    ["a pid of zero", [0, 1, one, one, Uint32Array.of(1)]],
    ["a negative pid", [-1, 1, one, one, Uint32Array.of(1)]],
  ] as const)(
    "refuses %s before anything is copied",
    async (_name, [from, to, sources, destinations, pages]) => {
      await expect(copyBetween(from, to, sources, destinations, pages)).rejects.toBeInstanceOf(TypeError);
    },
  );
});

describe("the remap back end", () => {
  const rows = [
    [10, 500, 20],
    [1000, 30, 1],
    [900, 40, 7],
  ] as const;

  async function checkFrames(
    source: MemoryHolder,
    destination: MemoryHolder,
    exchanged: boolean,
  ): Promise<void> {
    const toSource = new Map<number, number>();
    const toDestination = new Map<number, number>();
    for (const [from, to, pages] of rows) {
      for (let index = 0; index < pages; index++) {
        toSource.set(from + index, to + index);
        toDestination.set(to + index, from + index);
      }
    }
    for (let frame = 0; frame < 1200; frame++) {
      const other = exchanged ? toSource.get(frame) : undefined;
      expect(source.word(frame)).toBe(other === undefined ? `1:${frame}` : `2:${other}`);
      const from = exchanged ? toDestination.get(frame) : undefined;
      expect(destination.word(frame)).toBe(from === undefined ? `2:${frame}` : `1:${from}`);
    }
  }

  async function twoSides() {
    const source = await MemoryHolder.start(1);
    const destination = await MemoryHolder.start(2);
    const from = new HolderLibrary(source);
    const to = new HolderLibrary(destination);
    const backend = (): RemapBackend =>
      new RemapBackend(remapSide(source, from), remapSide(destination, to), () => undefined);
    const exchange = (extents: Extents): Promise<CompletedExchange> => backend().exchange(extents);
    const dispose = async (): Promise<void> => {
      await source[Symbol.asyncDispose]();
      await destination[Symbol.asyncDispose]();
    };
    return { source, destination, from, to, backend, exchange, [Symbol.asyncDispose]: dispose };
  }

  it("exchanges frames both ways, and undoes it exactly", async () => {
    await using sides = await twoSides();
    const { source, destination, from, to } = sides;
    const done = await sides.exchange(extentsOf(rows));
    await checkFrames(source, destination, true);
    await done.undo();
    await checkFrames(source, destination, false);
    await done.release();
    expect(from.opened.size + to.opened.size).toBe(0);
  });

  it("follows earlier exchanges: the same extents again bring everything back", async () => {
    await using sides = await twoSides();
    const { source, destination, exchange } = sides;
    await (await exchange(extentsOf(rows))).release();
    // Extents that straddle the patchwork of the first exchange, there and back.
    const across = extentsOf([[0, 490, 60]]);
    await (await exchange(across)).release();
    expect(source.word(0)).toBe("2:490");
    expect(destination.word(500)).toBe("2:500");
    expect(source.word(10)).toBe("1:10");
    await (await exchange(across)).release();
    await (await exchange(extentsOf(rows))).release();
    await checkFrames(source, destination, false);
  });

  it.each(["from", "to"] as const)("puts the other side back when side '%s' refuses", async (failing) => {
    await using sides = await twoSides();
    sides[failing].failNextMap = new MwarpError("MWARP_E_WARP", "no room for mappings");
    const exchange = sides.exchange(extentsOf(rows));
    await expect(exchange).rejects.toMatchObject({ code: "MWARP_E_WARP" });
    await checkFrames(sides.source, sides.destination, false);
    expect(sides.from.opened.size + sides.to.opened.size).toBe(0);
  });

  it("trusts the maps when a connection was lost and nothing had been mapped", async () => {
    await using sides = await twoSides();
    sides.to.failNextMap = new MwarpError("MWARP_E_VM_UNREACHABLE", "connection lost");
    await expect(sides.exchange(extentsOf(rows))).rejects.toMatchObject({ code: "MWARP_E_WARP" });
    await checkFrames(sides.source, sides.destination, false);
  });

  it("asks for recovery when a side never answers", async () => {
    await using sides = await twoSides();
    sides.to.failNextMap = new MwarpError("MWARP_E_TIMEOUT", "no answer");
    const exchange = sides.exchange(extentsOf(rows));
    await expect(exchange).rejects.toMatchObject({ code: "MWARP_E_NEEDS_RECOVERY" });
  });

  it("copies before it exchanges, so that a shared frame is read while it is still there", async () => {
    await using sides = await twoSides();
    const { source, destination, backend } = sides;
    const executed = await execute(
      {
        remap: extentsOf([[10, 500, 1]]),
        copy: extentsOf([[10, 501, 1]]),
        predictedMs: 0,
        allRemapMs: 0,
        allCopyMs: 0,
      },
      { copier: new CopyBackend(source, destination), exchanger: backend() },
    );
    expect([destination.word(500), destination.word(501), source.word(10)]).toEqual([
      "1:10",
      "1:10",
      "2:500",
    ]);
    expect(executed.exchange?.pages).toBe(1);
    expect(executed.copiedBytes).toBe(PAGE_BYTES);
    await executed.exchange?.release();
  });

  it("is not asked for when nothing is remapped, and must be there when something is", async () => {
    await using holder = await MemoryHolder.start(1);
    const copier = new CopyBackend(holder, holder);
    const times = { predictedMs: 0, allRemapMs: null, allCopyMs: 0 };
    const copied = await execute(
      { remap: NO_EXTENTS, copy: extentsOf([[1, 2, 1]]), ...times },
      { copier, exchanger: null },
    );
    expect(copied.exchange).toBeNull();
    expect(holder.word(2)).toBe("1:1");
    const remapping = execute(
      { remap: extentsOf([[1, 2, 1]]), copy: NO_EXTENTS, ...times },
      { copier, exchanger: null },
    );
    await expect(remapping).rejects.toMatchObject({ code: "MWARP_E_INTERNAL" });
  });
});

/** The layers together on two real, paused QEMUs: layout, what backs it, the preloaded library, memory reads. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { gpa, HUGE_BYTES, hva, PAGE_BYTES } from "../../../src/units.js";
import { BackingReader, backingPiece, fileKey, lookupBacking } from "../../../src/vm/backing.js";
import { GuestMemory } from "../../../src/vm/memory.js";
import type { MemoryLayout } from "../../../src/vm/types.js";
import { type MapExtents, type VmmFile, VmmLibrary } from "../../../src/vm/vmm-library.js";
import { PausedQemu } from "./paused-qemu.js";

interface Side {
  qemu: PausedQemu;
  layout: MemoryLayout;
  library: VmmLibrary;
  memory: GuestMemory;
  backing: BackingReader;
  own: VmmFile;
  other: VmmFile;
}

/** Frames of plain RAM above the legacy window, in the guest-physical address space of both. */
const FRAME = 4096;

async function open(qemu: PausedQemu): Promise<Omit<Side, "own" | "other">> {
  const layout = await qemu.layout();
  const library = await VmmLibrary.connect(qemu.endpoint.vmmSocket ?? "");
  for (const region of layout.regions) await library.region(region.hva, region.bytes);
  const { pid } = qemu.endpoint;
  return {
    qemu,
    layout,
    library,
    memory: new GuestMemory(pid, layout),
    backing: new BackingReader(pid, layout),
  };
}

interface Row {
  hva: number;
  bytes: number;
  handle: number;
  offset: number;
  oldHandle: number;
  oldOffset: number;
}

const extents = (rows: readonly Row[]): MapExtents => ({
  count: rows.length,
  hva: Float64Array.from(rows, (row) => row.hva),
  bytes: Float64Array.from(rows, (row) => row.bytes),
  offset: Float64Array.from(rows, (row) => row.offset),
  handle: Uint32Array.from(rows, (row) => row.handle),
  oldOffset: Float64Array.from(rows, (row) => row.oldOffset),
  oldHandle: Uint32Array.from(rows, (row) => row.oldHandle),
});

describe("two paused QEMUs", () => {
  let a: Side;
  let b: Side;

  beforeAll(async () => {
    const [first, second] = await Promise.all([PausedQemu.start().then(open), PausedQemu.start().then(open)]);
    const pathOf = (side: Omit<Side, "own" | "other">) => side.backing.read().files[0].path;
    const files = async (side: Omit<Side, "own" | "other">, other: Omit<Side, "own" | "other">) => ({
      ...side,
      own: await side.library.open(pathOf(side)),
      other: await side.library.open(pathOf(other)),
    });
    a = await files(first, second);
    b = await files(second, first);
  });

  afterAll(async () => {
    for (const side of [a, b]) {
      side.library.close();
      side.memory.close();
      await side.qemu[Symbol.asyncDispose]();
    }
  });

  const addressOf = (side: Side, frame: number): number =>
    side.layout.regions[1].hva + (frame * PAGE_BYTES - side.layout.regions[1].gpa);
  const offsetOf = (frame: number): number => frame * PAGE_BYTES;
  const byteAt = (side: Side, frame: number): number => {
    const page = new Uint8Array(PAGE_BYTES);
    side.memory.read(gpa(frame * PAGE_BYTES), page);
    expect(page.every((byte) => byte === page[0])).toBe(true);
    return page[0];
  };
  const row = (side: Side, frame: number, pages: number): Row => ({
    hva: addressOf(side, frame),
    bytes: pages * PAGE_BYTES,
    handle: side.other.handle,
    offset: offsetOf(frame),
    oldHandle: side.own.handle,
    oldOffset: offsetOf(frame),
  });
  const back = (forth: Row): Row => ({
    ...forth,
    handle: forth.oldHandle,
    offset: forth.oldOffset,
    oldHandle: forth.handle,
    oldOffset: forth.offset,
  });
  const pieces = (side: Side): number => side.backing.read().count;

  beforeEach(() => {
    for (const [side, value] of [
      [a, 0xaa],
      [b, 0xbb],
    ] as const)
      side.qemu.poke(addressOf(side, FRAME), new Uint8Array(16 * PAGE_BYTES).fill(value));
  });

  test("the layout covers all of RAM but the legacy window, in one file of 4 KiB pages", () => {
    expect(a.layout.regions.map(({ gpa: start, bytes }) => [start, bytes])).toEqual([
      [0, 0xa0000],
      [0x100000, 64 * 1024 * 1024 - 0x100000],
    ]);
    expect(a.layout.regions[1].hva - a.layout.regions[0].hva).toBe(0x100000);
    expect(a.layout.hostPageBytes).toBe(PAGE_BYTES);
    expect(pieces(a)).toBe(2);
    expect(a.own.bytes).toBe(64 * 1024 * 1024);
    expect(fileKey(a.own)).toBe(fileKey(a.backing.read().files[0]));
    expect(fileKey(a.own)).not.toBe(fileKey(a.other));
  });

  test("frames change owners, the host sees it in maps and memory, and the way back restores all", async () => {
    const forthA = [row(a, FRAME, 2), row(a, FRAME + 5, 1)];
    const forthB = [row(b, FRAME, 2), row(b, FRAME + 5, 1)];
    await a.library.map(extents(forthA));
    await b.library.map(extents(forthB));
    expect([0, 1, 2, 4, 5, 6].map((page) => byteAt(a, FRAME + page))).toEqual([
      0xbb, 0xbb, 0xaa, 0xaa, 0xbb, 0xaa,
    ]);
    expect([0, 1, 2, 5].map((page) => byteAt(b, FRAME + page))).toEqual([0xaa, 0xaa, 0xbb, 0xaa]);

    const backing = a.backing.read();
    const at = lookupBacking(backing, hva(addressOf(a, FRAME + 1) + 123));
    expect(backingPiece(backing, at)).toMatchObject({
      hva: addressOf(a, FRAME),
      bytes: 2 * PAGE_BYTES,
      offset: offsetOf(FRAME),
    });
    expect(fileKey(backing.files[backing.file[at]])).toBe(fileKey(a.other));

    await a.library.map(extents(forthA.map(back)));
    await b.library.map(extents(forthB.map(back)));
    expect([byteAt(a, FRAME), byteAt(b, FRAME)]).toEqual([0xaa, 0xbb]);
    expect([pieces(a), pieces(b)]).toEqual([2, 2]);
  });

  test("one invalid extent, and nothing is touched", async () => {
    const good = row(a, FRAME, 1);
    const bad: [string, Row][] = [
      ["EFAULT", { ...row(a, FRAME + 2, 1), hva: a.layout.regions[1].hva + a.layout.regions[1].bytes }],
      ["EFAULT", { ...row(a, FRAME + 2, 1), bytes: 2 ** 40 }],
      ["EINVAL", { ...row(a, FRAME + 2, 1), offset: 123 }],
      ["EINVAL", { ...row(a, FRAME + 2, 1), bytes: 0 }],
      ["EEXIST", row(a, FRAME, 1)],
      ["ERANGE", { ...row(a, FRAME + 2, 1), offset: a.other.bytes }],
      ["EBADF", { ...row(a, FRAME + 2, 1), handle: 99 }],
      ["EBADF", { ...row(a, FRAME + 2, 1), oldHandle: 99 }],
    ];
    for (const [name, entry] of bad) {
      const attempt = a.library.map(extents([good, entry]));
      await expect(attempt, name).rejects.toMatchObject({
        code: "MWARP_E_WARP",
        message: expect.stringContaining(`extent 1: ${name}`),
      });
    }
    expect(byteAt(a, FRAME)).toBe(0xaa);
    expect(pieces(a)).toBe(2);
  });

  test("when the kernel runs out of mappings in the middle, all is as before", async () => {
    // Every second page: each extent makes two mappings more. vm.max_map_count is 65530 by default.
    const large = await PausedQemu.start({ memory: "1G" }).then(open);
    await using _qemu = large.qemu;
    const own = await large.library.open(large.backing.read().files[0].path);
    const other = await large.library.open(a.backing.read().files[0].path);
    const region = large.layout.regions[1];
    const rows: Row[] = Array.from({ length: 60_000 }, (_, index) => ({
      hva: region.hva + index * 2 * PAGE_BYTES,
      bytes: PAGE_BYTES,
      handle: other.handle,
      offset: (index % 1000) * 2 * PAGE_BYTES,
      oldHandle: own.handle,
      oldOffset: region.gpa + index * 2 * PAGE_BYTES,
    }));
    await expect(large.library.map(extents(rows))).rejects.toMatchObject({
      code: "MWARP_E_WARP",
      message: expect.stringMatching(/ENOMEM; all undone$/),
    });
    expect(large.backing.read().count).toBe(2);
    large.library.close();
    large.memory.close();
  }, 30_000);

  test("remapped pieces keep the attributes that QEMU gave its guest RAM", async () => {
    const flagsAt = async (address: number): Promise<string> => {
      const smaps = await readFile(`/proc/${a.qemu.endpoint.pid}/smaps`, "utf8");
      const block = smaps.slice(smaps.indexOf(`\n${address.toString(16)}-`));
      return /VmFlags: (.*)/.exec(block)?.[1] ?? "";
    };
    const before = await flagsAt(a.layout.regions[0].hva);
    const forth = row(a, FRAME, 4);
    await a.library.map(extents([forth]));
    expect(await flagsAt(addressOf(a, FRAME))).toBe(before);
    expect(before).toContain("dc");
    await a.library.map(extents([back(forth)]));
  });

  test("a remapped piece asks the host for no huge pages where QEMU was told to reserve none", async () => {
    const object = "memory-backend-memfd,id=m,size=64M,share=on,hugetlb=on,hugetlbsize=2M,reserve=off";
    await using qemu = await PausedQemu.start({
      memoryArguments: ["-machine", "q35,memory-backend=m", "-m", "64M", "-object", object],
    });
    const { library, layout, backing, memory } = await open(qemu);
    const { handle } = await library.open(backing.read().files[0].path);
    const [first, second] = [8, 12].map((mib) => mib * 1024 * 1024);
    const at = layout.regions[1].hva + (first - layout.regions[1].gpa);
    const flags = async (): Promise<string[]> => {
      const smaps = await readFile(`/proc/${qemu.endpoint.pid}/smaps`, "utf8");
      return [...smaps.matchAll(/memfd:[\s\S]*?VmFlags: (.*)/g)].map(([, words]) => words);
    };
    const before = new Set(await flags());
    // Where the pool is empty, the kernel refuses a mapping for which it must reserve.
    await library.map(
      extents([{ hva: at, bytes: 2 ** 21, handle, offset: second, oldHandle: handle, oldOffset: first }]),
    );
    expect(await flags()).toHaveLength(3);
    expect(new Set(await flags())).toEqual(before);
    library.close();
    memory.close();
  });

  test("a file on disk is not taken for memory", async () => {
    await expect(a.library.open("/etc/passwd")).rejects.toMatchObject({
      code: "MWARP_E_WARP",
      message: expect.stringContaining("ENOTSUP"),
    });
    await expect(a.library.open("/no/such/file")).rejects.toThrow("ENOENT");
  });

  test("handles end with their connection", async () => {
    const second = await VmmLibrary.connect(a.qemu.endpoint.vmmSocket ?? "");
    const file = await second.open(b.backing.read().files[0].path);
    const taken = { ...row(a, FRAME, 1), handle: file.handle + 3 };
    await expect(a.library.map(extents([taken]))).rejects.toThrow("EBADF");
    await second.closeFile(file.handle);
    await expect(second.closeFile(file.handle)).rejects.toThrow("EBADF");
    second.close();
  });

  test("RAM that no one told the library of is out of reach", async () => {
    const fresh = await PausedQemu.start();
    await using _fresh = fresh;
    const layout = await fresh.layout();
    using library = await VmmLibrary.connect(fresh.endpoint.vmmSocket ?? "");
    expect(library.pid).toBe(fresh.endpoint.pid);
    const own = await library.open(new BackingReader(fresh.endpoint.pid, layout).read().files[0].path);
    const same = { handle: own.handle, offset: 0x100000, oldHandle: own.handle, oldOffset: 0x100000 };
    const untold = extents([{ hva: layout.regions[1].hva, bytes: PAGE_BYTES, ...same }]);
    await expect(library.map(untold)).rejects.toThrow("EFAULT");
    await expect(library.region(hva(0x1000), layout.bytes)).rejects.toThrow(/REGION: (ENOTSUP|EFAULT)/);
    await library.region(layout.regions[1].hva, layout.regions[1].bytes);
    await library.map(untold);
  });

  test("memory reads stop at the borders of guest RAM", () => {
    const page = new Uint8Array(PAGE_BYTES);
    const end = a.layout.regions[1].gpa + a.layout.regions[1].bytes;
    a.memory.read(gpa(end - PAGE_BYTES), page);
    for (const address of [end, end - 1, 0xa0000, 0xa0000 - 1, -PAGE_BYTES, HUGE_BYTES * 2 ** 20])
      expect(() => a.memory.read(gpa(address), page), `0x${address.toString(16)}`).toThrow("not guest RAM");
  });
});

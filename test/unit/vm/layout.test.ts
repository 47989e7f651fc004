import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { pagingLevels, parsePagingLevels } from "../../../src/vm/facts.js";
import { VmmInspector } from "../../../src/vm/inspector.js";
import { parseFlatView, parseHostAddress } from "../../../src/vm/layout.js";
import { PausedQemu } from "./paused-qemu.js";

const GIB = 1024 ** 3;

/** As QEMU 7.2 prints it for a q35 guest of 5 GiB after SeaBIOS has run; other address spaces shortened. */
const q35 = `FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan

FlatView #1
 AS "mch", root: bus master container
 Root memory region: (none)
  No rendered FlatView

FlatView #2
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 AS "virtio-blk-pci", root: bus master container
 Root memory region: system
  0000000000000000-00000000000c2fff (prio 0, ram): ram0
  00000000000c3000-00000000000e7fff (prio 0, rom): ram0 @00000000000c3000
  00000000000e8000-00000000000effff (prio 0, ram): ram0 @00000000000e8000
  00000000000f0000-00000000000fffff (prio 0, rom): ram0 @00000000000f0000
  0000000000100000-000000007fffffff (prio 0, ram): ram0 @0000000000100000
  00000000b0000000-00000000bfffffff (prio 0, i/o): pcie-mmcfg-mmio
  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios
  0000000100000000-00000001bfffffff (prio 0, ram): ram0 @0000000080000000

FlatView #3
 AS "cpu-smm-0", root: memory
 Root memory region: memory
  0000000000000000-00000000000c2fff (prio 0, ram): ram0
`;

/** Made by QEMU, on tmpfs. */
const NAMED = `/dev/shm/mwarp-unit-${process.pid}`;
afterAll(() => rmSync(NAMED, { force: true }));

describe("the flat view of QEMU", () => {
  test("RAM below and above the hole is found, without firmware, shadow and device ranges", () => {
    expect(parseFlatView(q35).filter((piece) => piece.block === "ram0")).toEqual([
      { block: "ram0", gpa: 0, bytes: 0xa0000, offset: 0 },
      { block: "ram0", gpa: 0x100000, bytes: 2 * GIB - 0x100000, offset: 0x100000 },
      { block: "ram0", gpa: 4 * GIB, bytes: 3 * GIB, offset: 2 * GIB },
    ]);
  });

  test("device memory keeps its own name, so that it cannot pass for guest RAM", () => {
    expect(parseFlatView(q35).map((piece) => piece.block)).toContain("vga.vram");
  });

  test("two blocks that touch stay two pieces, and a block cut by nothing is one", () => {
    const numa = `FlatView #0
 AS "memory", root: system
  0000000000100000-000000003fffffff (prio 0, ram): mem0 @0000000000100000 KVM
  0000000040000000-000000004fffffff (prio 0, ram): mem1 KVM
  0000000050000000-000000007fffffff (prio 0, ram): mem1 @0000000010000000 KVM
`;
    expect(parseFlatView(numa).map(({ block, bytes }) => [block, bytes])).toEqual([
      ["mem0", GIB - 0x100000],
      ["mem1", GIB],
    ]);
  });

  test("a monitor that shows no guest address space is an error, not an empty guest", () => {
    expect(() => parseFlatView('FlatView #0\n AS "I/O", root: io\n')).toThrow('no address space "memory"');
  });

  test("a host address is read from what gpa2hva prints, and its refusal is told", () => {
    expect(parseHostAddress("Host virtual address for 0x100000000 (ram0) is 0x7f588ffff000\r\n")).toBe(
      0x7f588ffff000,
    );
    expect(() => parseHostAddress("Memory at address 0xb0000000 is not RAM\r\n")).toThrow("is not RAM");
  });
});

describe("real, paused QEMUs", () => {
  test("a guest above 4 GiB has its RAM split, at two addresses of one file", async () => {
    await using qemu = await PausedQemu.start({ memory: "5G" });
    const { regions, bytes } = await qemu.layout();
    expect(regions.map((region) => [region.gpa, region.bytes])).toEqual([
      [0, 0xa0000],
      [0x100000, 2 * GIB - 0x100000],
      [4 * GIB, 3 * GIB],
    ]);
    expect(regions[2].hva - regions[1].hva).toBe(2 * GIB - 0x100000);
    expect(bytes).toBe(5 * GIB - 0x60000);
  });

  test.each([
    ["private memory", ["-machine", "q35", "-m", "64M"], "pc.ram is private"],
    [
      "a private memory backend",
      [
        "-machine",
        "q35,memory-backend=m",
        "-m",
        "64M",
        "-object",
        "memory-backend-memfd,id=m,size=64M,share=off",
      ],
      "m is private",
    ],
    [
      "memory in a file on disk",
      [
        "-machine",
        "q35,memory-backend=m",
        "-m",
        "64M",
        "-object",
        "memory-backend-file,id=m,size=64M,share=on,mem-path=/var/tmp",
      ],
      "a file on disk",
    ],
    [
      "memory in a file that has a name",
      [
        "-machine",
        "q35,memory-backend=m",
        "-m",
        "64M",
        "-object",
        `memory-backend-file,id=m,size=64M,share=on,mem-path=${NAMED}`,
      ],
      "a file that has a name",
    ],
  ])("%s is unsuitable, and the reason is said", async (_, memoryArguments, reason) => {
    await using qemu = await PausedQemu.start({ memoryArguments });
    qemu.qmp.close();
    const backing = await new VmmInspector().backing(qemu.endpoint);
    expect(backing).toEqual({ kind: "unsuitable", reason: expect.stringContaining(reason) });
  });

  test("RAM that the host maps as transparent huge pages is told from RAM of small ones", async () => {
    const directory = mkdtempSync(join(tmpdir(), "mwarp-huge-"));
    execFileSync("mount", ["-t", "tmpfs", "-o", "huge=always", "mwarp-test", directory]);
    try {
      const object = `memory-backend-file,id=m,size=64M,share=on,mem-path=${directory},align=2M`;
      await using qemu = await PausedQemu.start({
        memoryArguments: ["-machine", "q35,memory-backend=m", "-m", "64M", "-object", object],
      });
      // Nothing is mapped before it is touched.
      const before = await qemu.layout();
      qemu.poke(before.regions[0].hva, new Uint8Array(1));
      expect([before.transparentHuge, (await qemu.layout()).transparentHuge]).toEqual([false, true]);
      expect(before.hostPageBytes).toBe(4096);
    } finally {
      execFileSync("umount", ["--lazy", directory]);
      rmSync(directory, { recursive: true });
    }
  });

  test("overlapping looks share one connection, and later ones need none", async () => {
    await using qemu = await PausedQemu.start();
    qemu.qmp.close();
    const inspector = new VmmInspector();
    const [first, second] = await Promise.all([
      inspector.backing(qemu.endpoint),
      inspector.backing(qemu.endpoint),
    ]);
    expect(first).toBe(second);
    const elsewhere = { ...qemu.endpoint, qmpSocket: "/nowhere" };
    expect(await inspector.backing(elsewhere)).toBe(first);
  });

  test("a processor that has not started pages with four levels at most", async () => {
    await using qemu = await PausedQemu.start();
    expect(await pagingLevels(qemu.qmp)).toBe(4);
    expect(parsePagingLevels("CR0=80050033 CR2=00005627c159e008 CR3=0000000101e2e000 CR4=00751ef0")).toBe(5);
    expect(() => parsePagingLevels("PC=0")).toThrow("not an x86-64 VM");
  });
});

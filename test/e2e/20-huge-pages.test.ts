/** Huge pages at both ends: of the host behind the VMs' RAM, and of the guests in the containers. */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import type { MigrationReport } from "../../src/protocol/migration.js";
import { HUGE_BYTES, PAGES_PER_HUGE } from "../../src/units.js";
import { pinCosts } from "../support/costs.js";
import { expectOnePagePerPage, type RamMapping, ramMappings } from "../support/host-memory.js";
import { useLab } from "../support/lab.js";
import { long } from "../support/long.js";
import { Workload } from "../support/workload.js";

const MINUTES = 60_000;
const MIB = 1024 * 1024;
/** What a wedge of memory leaves of it, half, must be enough for a move. */
const MEMORY = "768M";
/** Of the guest's huge pages, how many a container must have after a move: a few may be lost to what CRIU itself wrote. */
const KEPT = 0.9;
/**
 * Of the destination's memory, how much a wedge leaves free in pieces of 2 MiB: less than the container wants, and more than what the
 * kernel keeps back for itself, where it would kill the wedge.
 */
const LEFT_MIB = 38;
const SETTINGS = ["enabled", "defrag", "shmem_enabled"].map(
  (name) => `/sys/kernel/mm/transparent_hugepage/${name}`,
);
const readSettings = (): string[] => SETTINGS.map((file) => readFileSync(file, "utf8"));
const settingsBefore = readSettings();

const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");

/** Memory of a container's processes that its guest maps as huge pages. Fails when any of it must not have them (MADV_NOHUGEPAGE). */
async function hugeBytes({ lab, name }: Workload): Promise<number> {
  const text = await lab.mwarp.ok(["exec", name, "--", "sh", "-c", "cat /proc/[0-9]*/smaps"]);
  const mappings = [...text.matchAll(/^AnonHugePages:\s+(\d+) kB$[\s\S]*?^VmFlags:(.*)$/gm)].map(
    ([, kib, flags]) => ({
      bytes: Number(kib) * 1024,
      forbidden: flags.split(" ").includes("nh"),
    }),
  );
  const sum = (some: typeof mappings): number => some.reduce((total, { bytes }) => total + bytes, 0);
  expect(sum(mappings.filter(({ forbidden }) => forbidden)), "huge pages where the program wants none").toBe(
    0,
  );
  return sum(mappings);
}

/** Moves there and back, and looks each time at every page and at how many huge pages there are. */
async function moveAbout(workload: Workload, moves: number): Promise<MigrationReport[]> {
  const before = await hugeBytes(workload);
  const reports: MigrationReport[] = [];
  for (let i = 0; i < moves; i++) {
    reports.push(await workload.migrate(other(await workload.vm())));
    await workload.verify();
    const after = await hugeBytes(workload);
    console.info(`${workload.name}: ${before / MIB} MiB of huge pages, ${after / MIB} after move ${i + 1}`);
    expect(after, `huge pages after move ${i + 1}`).toBeGreaterThanOrEqual(KEPT * before);
  }
  return reports;
}

const whole = ({ start, end, offset }: RamMapping): boolean =>
  [start, end, offset].every((position) => position % HUGE_BYTES === 0);

/** On hugetlb 03-warp and 04-redis move containers with huge pages, and the parts of some. */
const backings = long ? (["thp", "hugetlb"] as const) : (["thp"] as const);

describe.each(backings)("with VMs on %s", (backing) => {
  const host = useLab({ memory: MEMORY, backing });
  // What is asked here follows from the costs of an idle host.
  beforeAll(() => pinCosts(host.lab.mwarp));

  it(
    "huge pages are exchanged as a whole, and are huge pages on the other side, move after move",
    async () => {
      const workload = await Workload.run(host.lab, "vm-a", "pattern", ["pattern", "64", "thp"]);
      expect(await hugeBytes(workload)).toBe(64 * MIB);
      for (const { memory } of await moveAbout(workload, 3)) {
        // Where the frames lie in a row, several are one extent.
        expect(memory.remapped_pages % PAGES_PER_HUGE).toBe(0);
        expect(memory.remapped_pages).toBeGreaterThanOrEqual(KEPT * 32 * PAGES_PER_HUGE);
        expect(memory.remapped_pages + memory.copied_pages).toBe(memory.pages);
      }
      await workload.remove();
    },
    4 * MINUTES,
  );

  it(
    "what is a part of a huge page, in the guest or on the host, is copied",
    async () => {
      const workload = await Workload.run(host.lab, "vm-a", "mixed", ["huge", "16"]);
      for (const { memory } of await moveAbout(workload, 1)) {
        expect(memory.remapped_pages % PAGES_PER_HUGE).toBe(0);
        expect(memory.remapped_pages).toBeGreaterThan(0);
        // 32 MiB of small pages that nobody may make huge ones of, and the ends of the crooked mapping.
        expect(memory.copied_pages).toBeGreaterThan((32 * MIB) / 4096);
      }
      await workload.remove();
    },
    4 * MINUTES,
  );

  if (backing === "thp")
    it(
      "a process that wants none has none there",
      async () => {
        const workload = await Workload.run(host.lab, "vm-a", "without", ["huge", "8", "disabled"]);
        await moveAbout(workload, 1);
        expect(await hugeBytes(workload)).toBe(0);
        await workload.remove();
      },
      2 * MINUTES,
    );

  const others = [
    ["edge", "32", "thp"],
    ["pattern", "16", "scattered"],
    ["cow", "16", "2"],
  ];
  // On hugetlb 03-warp moves them.
  if (backing === "thp")
    it.each(long ? others : others.slice(0, 1))(
      "%s %s %s: every page is right",
      async (...argv) => {
        const workload = await Workload.run(host.lab, "vm-a", "moved", argv);
        await moveAbout(workload, 1);
        await workload.remove();
      },
      3 * MINUTES,
    );

  if (backing === "thp")
    it(
      "memory of the destination that is free only in pieces is put together before the container stands still",
      async () => {
        // With more huge pages than the wedge leaves free in one piece.
        const workload = await Workload.run(host.lab, "vm-a", "mixed", ["huge", "24"]);
        // The kernel would put it together by itself in time (admin-guide/sysctl/vm.rst).
        await host.lab.guest("vm-b", "sh", "-c", "echo 0 > /proc/sys/vm/compaction_proactiveness");
        const wedge = await Workload.run(host.lab, "vm-b", "wedge", ["fragment", String(LEFT_MIB)]);
        expect(await hugeBytes(workload)).toBeGreaterThan(LEFT_MIB * MIB);
        await moveAbout(workload, 1);
        expect(await host.lab.guest("vm-b", "grep", " compact: ", "/run/mwarp-guest/agent.log")).not.toBe("");
        await wedge.remove();
        await workload.remove();
      },
      3 * MINUTES,
    );

  it("after all of it RAM is still mapped in whole huge pages", async () => {
    await expectOnePagePerPage(host.lab);
    for (const [vm, mappings] of Object.entries(ramMappings(host.lab))) {
      expect(mappings.length, `mappings of ${vm}`).toBeGreaterThan(1);
      expect(
        mappings.filter((mapping) => !whole(mapping)),
        `broken ones of ${vm}`,
      ).toEqual([]);
      if (backing === "hugetlb") continue;
      const sum = (kib: (mapping: RamMapping) => number): number =>
        mappings.reduce((total, mapping) => total + kib(mapping), 0);
      // The host gives small ones where it finds no others.
      const [resident, huge] = [sum(({ residentKib }) => residentKib), sum(({ hugeKib }) => hugeKib)];
      expect(huge, `in huge pages of ${vm}`).toBeGreaterThanOrEqual(KEPT * resident);
    }
    expect(readSettings(), "settings of the host").toEqual(settingsBefore);
  });

  if (backing === "thp")
    it(
      "who asks for it gets parts of huge pages exchanged, too, and every page is right",
      async () => {
        const workload = await Workload.run(host.lab, "vm-a", "small", ["pattern", "16", "scattered"]);
        const { memory } = await workload.migrate(other(await workload.vm()), ["--backend", "remap"]);
        await workload.verify();
        expect(memory.remapped_pages).toBeGreaterThan(KEPT * memory.pages);
        await expectOnePagePerPage(host.lab);
      },
      3 * MINUTES,
    );
});

// Pages of this size are moved by 17-host-memory, too.
if (long)
  describe("with VMs on 4 KiB pages", () => {
    const host = useLab({ memory: MEMORY, backing: "4k" });

    it(
      "huge pages of a guest are huge pages on the other side",
      async () => {
        const workload = await Workload.run(host.lab, "vm-a", "mixed", ["huge", "16"]);
        await moveAbout(workload, 1);
        await expectOnePagePerPage(host.lab);
        await workload.remove();
      },
      3 * MINUTES,
    );
  });

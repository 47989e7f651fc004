/** Moves with the oracles of DESIGN.md, section 8, neighbours in both VMs all the while. */
import { beforeAll, describe, expect, it } from "vitest";
import { MigrationTableSchema } from "../../src/protocol/api.js";
import type { BackendChoice } from "../../src/protocol/migration.js";
import { expectOnePagePerPage, hostMemory } from "../support/host-memory.js";
import { useLab } from "../support/lab.js";
import { long } from "../support/long.js";
import { Workload } from "../support/workload.js";

const MOVES = Number(process.env.MWARP_TEST_MOVES ?? 20);
const MINUTES = 60_000;
const MEMORY_BYTES = 2 * 1024 ** 3;
const host = useLab({ memory: `${MEMORY_BYTES}` });
const neighbours: Workload[] = [];

/** Moves there and back, each time with the next back end, and looks at every page after every move. */
async function moveAbout(
  workload: Workload,
  moves: number,
  backends: readonly BackendChoice[],
): Promise<void> {
  for (let i = 0; i < moves; i++) {
    const to = (await workload.vm()) === "vm-a" ? "vm-b" : "vm-a";
    const backend = backends[i % backends.length];
    const report = await workload.migrate(to, ["--backend", backend]);
    await workload.verify();
    const { memory } = report;
    expect(memory.remapped_pages + memory.copied_pages).toBeLessThanOrEqual(memory.pages);
    if (backend === "copy") expect(memory.remapped_pages).toBe(0);
    // Pages that several tasks of a family map since its forks. On the other side each has its own.
    if (workload.program === "cow" && i === 0) expect(memory.shared_pages).toBeGreaterThan(0);
  }
}

async function verifyNeighbours(): Promise<void> {
  for (const neighbour of neighbours) await neighbour.verify();
}

describe("a warp between two VMs with neighbours at work", () => {
  beforeAll(async () => {
    for (const vm of ["vm-a", "vm-b"]) {
      neighbours.push(await Workload.run(host.lab, vm, `near-${vm}`, ["neighbour", "32", "thp"]));
      neighbours.push(await Workload.run(host.lab, vm, `kmem-${vm}`, ["kmem", "16", "/tmp/kmem"]));
    }
    // In the long form they compete with the migration for the guest's one processor.
    if (!long) for (const neighbour of neighbours) await neighbour.giveWay();
  }, 3 * MINUTES);

  const cases: readonly (readonly [title: string, argv: readonly string[], moves: number])[] = [
    // In the short form each back end there and back; the many moves are those of scattered pages.
    ["64 MiB of huge pages that a program writes all the time", ["edge", "64", "thp"], long ? MOVES : 6],
    [
      "64 MiB of scattered 4 KiB pages that a program writes all the time",
      ["edge", "64", "scattered"],
      MOVES,
    ],
    ["256 MiB of huge pages that are never written again", ["pattern", "256", "thp"], 3],
    ["64 MiB of scattered 4 KiB pages that are never written again", ["pattern", "64", "scattered"], 3],
    ["four tasks with threads that share memory copy-on-write", ["cow", "48", "3"], 3],
  ];
  it.each(cases)(
    "%s",
    async (_, argv, moves) => {
      const workload = await Workload.run(host.lab, "vm-a", "moved", argv);
      try {
        await moveAbout(workload, moves, ["auto", "remap", "copy"]);
        await verifyNeighbours();
      } finally {
        await workload.remove();
      }
    },
    12 * MINUTES,
  );

  it(
    "1 GiB of huge pages, there and back, with nearly every page remapped",
    async () => {
      const workload = await Workload.run(host.lab, "vm-a", "large", ["pattern", "1024", "thp"]);
      const there = await workload.migrate("vm-b");
      await workload.verify();
      const back = await workload.migrate("vm-a");
      await workload.verify();
      await verifyNeighbours();
      const args = ["inspect", there.id, "--table"];
      const { runs } = await host.lab.mwarp.json(MigrationTableSchema, args);
      expect(runs.reduce((sum, run) => sum + run.pages, 0)).toBe(there.memory.pages);
      for (const { time_ms: time } of [there, back]) {
        const { downtime, downtime_parts: waits } = time;
        const sum = Object.values(waits).reduce((all, part) => all + part, 0);
        expect(sum / downtime, "parts of the downtime, to it").toBeCloseTo(1, 3);
        for (const [part, ms] of Object.entries(waits)) expect(ms, part).toBeGreaterThan(0);
      }
      for (const { memory, stun_ms: stun } of [there, back]) {
        expect(stun.times).toBe(1);
        const parts = Object.values(stun.parts).reduce((sum, part) => sum + part, 0);
        const longer = Math.max(stun.source, stun.destination);
        expect(parts / longer, "parts of the stun, to the stun").toBeCloseTo(1, 3);
        for (const [part, ms] of Object.entries(stun.parts)) expect(ms, part).toBeGreaterThan(0);
        expect(memory.pages).toBeGreaterThanOrEqual(262_144);
        expect(memory.remapped_pages).toBeGreaterThan(0.95 * memory.pages);
      }
      await workload.remove();
    },
    5 * MINUTES,
  );

  it("and after all of it every page of both VMs has one page of its own on the host", async () => {
    console.info("mappings of the VMMs:", await expectOnePagePerPage(host.lab));
    // Of huge pages where the host has any to spare.
    const { files, fileBytes } = await hostMemory(host.lab);
    expect(files, "memory files").toBe(2);
    expect(fileBytes, "allocated for them").toBeLessThanOrEqual(2 * MEMORY_BYTES);
    expect(fileBytes).toBeGreaterThan(MEMORY_BYTES / 2);
  });
});

/** What many moves leave behind on the host: nothing that grows with their number. */
import { beforeAll, describe, expect, it } from "vitest";
import { expectOnePagePerPage, type HostMemory, hostMemory, maxMapCount } from "../support/host-memory.js";
import { useLab } from "../support/lab.js";
import { until } from "../support/wait.js";
import { Workload } from "../support/workload.js";

const MIB = 1024 * 1024;
const MEMORY_MIB = 512;
const LONG = process.env.MWARP_TEST_LONG === "1";
const MOVES = Number(process.env.MWARP_TEST_MOVES ?? (LONG ? 200 : 10));
/** Until then everything has been used once: connections, buffers, the heap that code needs to run at all. */
const WARM_UP_MOVES = 4;
/**
 * What a process may have more of after the moves than before them, KiB, however many those are. Measured in 30 moves: one VMM
 * had 8 MiB less of private memory and the other 8 MiB more (TCG sizes its TLBs by what the guest does), the daemon 12 MiB
 * more (its heap grows before it is collected); page tables 48 KiB.
 */
const VMM_KIB = 24 * 1024;
const DAEMON_KIB = 48 * 1024;
/** Entries for all of a VM's RAM, 8 bytes for each page, and as many again. */
const TABLES_KIB = (2 * MEMORY_MIB * 1024) / 512;
/** Part of vm.max_map_count that mWarp leaves to the VMM (mappingBudget in src/warp/planner.ts). */
const RESERVE = 1 / 16;
const MINUTES = 60_000;
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");

describe("in a lab of VMs without a balloon", () => {
  // Pages of 4 KiB, which can be exchanged one by one: more descriptors and mappings come and go than with huge ones.
  const host = useLab({ memory: `${MEMORY_MIB}M`, hugepages: "off" });
  const moved: Workload[] = [];
  beforeAll(async () => {
    moved.push(await Workload.run(host.lab, "vm-a", "huge", ["pattern", "64", "thp"]));
    moved.push(await Workload.run(host.lab, "vm-b", "small", ["pattern", "24", "scattered"]));
  }, 2 * MINUTES);

  async function move(times: number): Promise<void> {
    for (let i = 0; i < times; i++) {
      const workload = moved[i % moved.length];
      await workload.migrate(other(await workload.vm()), ["--backend", "remap"]);
    }
    for (const workload of moved) await workload.verify();
  }

  it(
    `the host's memory is the same after ${MOVES} moves as before`,
    async () => {
      const { lab } = host;
      await move(WARM_UP_MOVES);
      const before = await hostMemory(lab);
      await move(MOVES);
      await expectOnePagePerPage(lab);
      // What a migration has open is closed a moment after its command has ended.
      const after = await until("the descriptors to be as many as before", async () => {
        const now = await hostMemory(lab);
        return sameDescriptors(before, now) ? now : undefined;
      }).catch(() => hostMemory(lab));
      show("before", before);
      show("after", after);
      const ram = 2 * MEMORY_MIB * MIB;
      for (const { files, fileBytes } of [before, after]) {
        expect(files, "memory files").toBe(2);
        expect(fileBytes, "allocated for the memory files").toBeLessThanOrEqual(ram);
      }
      for (const [name, now] of Object.entries(after.processes)) {
        const then = before.processes[name];
        expect(now.descriptors, `descriptors of ${name}`).toBe(then.descriptors);
        const growth = now.anonymousKib - then.anonymousKib;
        expect(growth, `KiB that ${name} has more`).toBeLessThan(name === "daemon" ? DAEMON_KIB : VMM_KIB);
        const tables = now.pageTableKib - then.pageTableKib;
        expect(tables, `KiB of page tables that ${name} has more`).toBeLessThan(TABLES_KIB);
        expect(now.mappings, `mappings of ${name}`).toBeLessThan(maxMapCount() * (1 - RESERVE / 2));
      }
    },
    (2 + MOVES) * MINUTES,
  );
});

const sameDescriptors = (one: HostMemory, other: HostMemory): boolean =>
  Object.entries(one.processes).every(
    ([name, { descriptors }]) => other.processes[name].descriptors === descriptors,
  );

function show(when: string, memory: HostMemory): void {
  const lines = Object.entries(memory.processes).map(
    ([name, { anonymousKib, pageTableKib, descriptors, mappings }]) =>
      `${name}: ${anonymousKib} KiB, tables ${pageTableKib} KiB, ${descriptors} descriptors, ${mappings} mappings`,
  );
  const files = `${memory.files} memory files with ${Math.round(memory.fileBytes / MIB)} MiB`;
  console.info(`${when} ${MOVES} moves: ${files}; ${lines.join("; ")}`);
}

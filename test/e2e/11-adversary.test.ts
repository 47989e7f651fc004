/** Containers move while both guests and both VMMs do all they can to move, merge, swap and drop pages under them. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { MigrationReportSchema } from "../../src/protocol/migration.js";
import { type Adversary, adversaryLab, startAdversary } from "../support/adversary.js";
import { Crashes } from "../support/crash.js";
import { expectOnePagePerPage } from "../support/host-memory.js";
import { keepLogsOfFailures, TestLab } from "../support/lab.js";
import { Workload } from "../support/workload.js";

const MEMORY_MIB = 768;
const LONG = process.env.MWARP_TEST_LONG === "1";
const MOVES = Number(process.env.MWARP_TEST_MOVES ?? (LONG ? 200 : 4));
/** Beside an adversary that never rests, most moves take half a minute, and some are rolled back. */
const CONTROL_MS = 9 * 60_000;
const MINUTES = 60_000;
const backends = ["remap", "auto", "copy"] as const;
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");

describe("against the adversary", () => {
  let lab: TestLab;
  keepLogsOfFailures(() => lab);
  let adversary: Adversary;
  const moved: Workload[] = [];
  const neighbours: Workload[] = [];

  beforeAll(async () => {
    lab = new TestLab();
    await lab.up(adversaryLab(() => lab.runDir, MEMORY_MIB)());
    for (const vm of ["vm-a", "vm-b"]) {
      neighbours.push(await Workload.run(lab, vm, `near-${vm}`, ["neighbour", "16", "thp"]));
      if (LONG) neighbours.push(await Workload.run(lab, vm, `kmem-${vm}`, ["kmem", "8", "/tmp/kmem"]));
    }
    moved.push(await Workload.run(lab, "vm-a", "edge", ["edge", "40", "scattered"]));
    moved.push(await Workload.run(lab, "vm-b", "classes", ["classes", "256"]));
    // What khugepaged puts together again and again; it leaves all of the others alone.
    moved.push(await Workload.run(lab, "vm-a", "huge", ["edge", "24", "collapsible"]));
    adversary = await startAdversary(lab, MEMORY_MIB);
  }, 5 * MINUTES);
  afterAll(async () => {
    await adversary[Symbol.asyncDispose]();
    await lab.down();
  }, 3 * MINUTES);

  it(
    `no byte changes in ${MOVES} moves, in the containers that move or beside them`,
    async () => {
      for (let i = 0; i < MOVES; i++) {
        const workload = moved[i % moved.length];
        const backend = backends[Math.floor(i / moved.length) % backends.length];
        await workload.migrate(other(await workload.vm()), ["--backend", backend]);
        await workload.verify();
      }
      for (const workload of [...moved, ...neighbours]) await workload.verify();
      await adversary.expectBusy();
      await expectOnePagePerPage(lab);
    },
    (4 + 3 * MOVES) * MINUTES,
  );

  it(
    "with the protection switched off the damage shows, so the test above can fail",
    async () => {
      const crashes = new Crashes(lab);
      await crashes.begin();
      crashes.arm("unsafe:stale-table");
      expect(await untilDamaged(moved[0], neighbours)).toMatch(/BAD|dead|killed/);
      crashes.disarm();
    },
    CONTROL_MS + 3 * MINUTES,
  );
});

/**
 * Moves until damage is seen after a committed move: wrong bytes in the container or beside it, or a container or guest that
 * died of it. Says what was seen; a migration that was refused or rolled back is none.
 */
async function untilDamaged(workload: Workload, neighbours: readonly Workload[]): Promise<string> {
  const { lab, name } = workload;
  const deadline = performance.now() + CONTROL_MS;
  const outcomes: string[] = [];
  while (performance.now() < deadline) {
    const to = other(await workload.vm());
    const end = await lab.mwarp.run(["migrate", name, "--to", to, "--backend", "remap", "--json"]);
    const { outcome } = MigrationReportSchema.parse(JSON.parse(end.stdout));
    outcomes.push(outcome);
    if (outcome !== "committed") continue;
    const { containers } = await lab.daemon.containers();
    const mine = containers.filter(({ container }) => container.spec.name === name);
    if (mine.length === 0) return "the guest is dead";
    if (mine[0].container.status !== "running") return "the container was killed by a fault";
    for (const one of [workload, ...neighbours]) {
      const wrong = await one.verify().then(() => null, String);
      if (wrong !== null) return wrong.includes("BAD") ? wrong : "the guest, or a program in it, is dead";
    }
  }
  return `nothing wrong in ${outcomes.length} moves: ${outcomes.join(", ")}`;
}

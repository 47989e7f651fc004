/**
 * A VM that is killed in the middle of a migration takes nothing with it but its own: afterwards the other VM has the container,
 * every byte of it right, or, when it was the owner's, nothing of it. With MWARP_TEST_LONG either VM dies in every state and at
 * both instants inside the stun; without, where it differs most.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { StunPoint } from "../../src/migration/faults.js";
import type { State } from "../../src/migration/states.js";
import { MigrationReportSchema } from "../../src/protocol/migration.js";
import { Crashes, killVmm, type Side } from "../support/crash.js";
import { useLab } from "../support/lab.js";
import { expectOneOwner, expectTraceless } from "../support/one-owner.js";
import { Workload } from "../support/workload.js";

const long = process.env.MWARP_TEST_LONG === "1";
const ROW_MS = 300_000;
/** Each death costs a VM. */
const ROWS_PER_LAB = 6;

/** Where a migration can be held up. */
type Instant = Exclude<State, "started" | "retired" | "aborting" | "aborted" | "lost"> | StunPoint;
/** Who has the container once the VM of either side was killed. An instant without an entry does not compile. */
const survivors: Readonly<Record<Instant, Readonly<Record<Side, Side | "nobody">>>> = {
  prepared: { source: "nobody", destination: "source" },
  frozen: { source: "nobody", destination: "source" },
  dumped: { source: "nobody", destination: "source" },
  transferred: { source: "nobody", destination: "source" },
  held: { source: "nobody", destination: "source" },
  populated: { source: "nobody", destination: "source" },
  // All is there that the commit needs: it follows.
  exchanged: { source: "destination", destination: "source" },
  stunned: { source: "destination", destination: "nobody" },
  committed: { source: "destination", destination: "nobody" },
  resumed: { source: "destination", destination: "nobody" },
};
type Row = readonly [Side, Instant];
const everyDeath = (Object.keys(survivors) as Instant[]).flatMap((instant): Row[] => [
  ["source", instant],
  ["destination", instant],
]);
const someDeaths: readonly Row[] = [
  ["destination", "populated"],
  ["destination", "exchanged"],
  ["source", "committed"],
  ["source", "held"],
  ["destination", "committed"],
];
const rows = long ? everyDeath : someDeaths;
const labs = Array.from({ length: Math.ceil(rows.length / ROWS_PER_LAB) }, (_, lab) =>
  rows.slice(lab * ROWS_PER_LAB, (lab + 1) * ROWS_PER_LAB),
);

describe.each(labs.map((deaths) => ({ deaths })))("when a VM is killed in a migration", ({ deaths }) => {
  const host = useLab({ vms: deaths.length + 1, memory: "512M", hugepages: "off" });
  let living: string[] = [];
  let crashes: Crashes;
  let edge: Workload;
  const start = (vm: string): Promise<Workload> => Workload.run(host.lab, vm, "edge", ["edge", "24", "thp"]);
  beforeAll(async () => {
    crashes = new Crashes(host.lab);
    living = Array.from({ length: deaths.length + 1 }, (_, index) => `vm-${String.fromCharCode(97 + index)}`);
    edge = await start("vm-a");
    await crashes.begin();
  });

  it.each(deaths.map(([side, instant]) => ({ side, instant, owner: survivors[instant][side] })))(
    "the $side's VM, $instant: $owner has the container",
    { timeout: ROW_MS },
    async ({ side, instant, owner }) => {
      const { lab } = host;
      const from = await edge.vm();
      const to = living.find((vm) => vm !== from)!;
      const victim = side === "source" ? from : to;
      const survivor = side === "source" ? to : from;
      const spec = await edge.spec();
      const pid = await crashes.vmPid(victim);
      const args = ["edge", "--to", to, "--backend", "remap", "--json"];
      const migration = await crashes.startAndHold(args, instant);
      // Inside the stun no guest hears anything.
      const inStun = instant === "exchanged" || instant === "stunned";
      const thaws = owner === "nobody" && !inStun ? await crashes.watchFreezer(survivor, "edge") : null;
      await killVmm(pid);
      living = living.filter((vm) => vm !== victim);
      const dies = owner === "nobody" && side === "source";
      if (dies) crashes.arm("kill:lost");
      migration.release();
      const end = await migration.finished;
      // The daemon that finds out that the container is lost dies over it: the next one has nothing left to do.
      if (dies) {
        await crashes.mwarp.run(["recover"]);
        expect(crashes.lastState()).toBe("lost");
      }
      await crashes.settle();
      if (owner === "nobody") {
        expect(crashes.lastState()).toBe("lost");
        expect((await lab.daemon.containers()).containers).toEqual([]);
        for (const vm of living) await expectTraceless(lab, vm, "edge", spec);
        // What waited there for the end was never let go on its way out.
        const waited = survivor === from || instant === "held" || instant === "populated";
        if (thaws !== null) expect(await thaws.values()).toEqual(waited ? ["1"] : []);
        edge = await start(living[0]);
        return;
      }
      expect(await expectOneOwner(edge, living)).toBe(owner === "source" ? from : to);
      if (owner === "destination") {
        // In frames that were the dead VM's.
        const report = MigrationReportSchema.parse(JSON.parse(end.stdout));
        expect(report.memory.remapped_pages).toBeGreaterThan(1000);
        // The rest of the dead VM's memory goes back to the host, and nothing that is still in use with it.
        const log = (): string => readFileSync(path.join(lab.stateDir, "daemon.log"), "utf8");
        await expect.poll(log, { timeout: 30_000 }).toContain("freed memory of VMs that have ended");
        await edge.verify();
      }
      if (long && living.length > 1) {
        await edge.migrate(living.find((vm) => vm !== survivor)!);
        await edge.verify();
      }
    },
  );
});

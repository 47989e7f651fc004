/**
 * The crash matrix: whoever dies at whatever state, afterwards exactly one container runs, every byte of it right, and it can
 * be moved. With MWARP_TEST_LONG every process is killed at every state; without, each state sees the daemon's death
 * and each process a few.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type State, successors } from "../../src/migration/states.js";
import { VmListSchema } from "../../src/protocol/api.js";
import { MigrationReportSchema } from "../../src/protocol/migration.js";
import { Crashes, expectOneOwner, type Program, type Side } from "../support/crash.js";
import { useLab } from "../support/lab.js";
import { Workload } from "../support/workload.js";

const long = process.env.MWARP_TEST_LONG === "1";
/** Hold, migrate, settle and verify may each take a minute or two on a slow machine. */
const ROW_MS = 300_000;
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");

type Owner = "source" | "destination";
/** How the daemon comes to die in a state, and who has the container then. A state without an entry does not compile. */
const daemonDeaths: Readonly<
  Record<Exclude<State, "lost">, { readonly owner: Owner; readonly failAt?: State }>
> = {
  started: { owner: "source" },
  prepared: { owner: "source" },
  frozen: { owner: "source" },
  dumped: { owner: "source" },
  transferred: { owner: "source" },
  held: { owner: "source" },
  populated: { owner: "source" },
  committed: { owner: "destination" },
  resumed: { owner: "destination" },
  retired: { owner: "destination" },
  aborting: { owner: "source", failAt: "populated" },
  aborted: { owner: "source", failAt: "dumped" },
};
/** Its daemon dies in the tests of VMs that die, below. */
const lostState: State = "lost";

/** States at which a migration can be held up. */
const holdable = (Object.keys(successors) as State[]).filter(
  (state) => !["started", "retired", "aborting", "aborted", "lost"].includes(state),
);
const programs: readonly Program[] = ["agent", "criu", "runc"];
const sides: readonly Side[] = ["source", "destination"];
const everyDeath = holdable.flatMap((state) =>
  sides.flatMap((side) => programs.map((program) => [program, side, state] as const)),
);
/** Each process once or twice, where its death hurts most. */
const someDeaths: readonly (readonly [Program, Side, State])[] = [
  ["agent", "source", "frozen"],
  ["runc", "source", "dumped"],
  ["agent", "destination", "transferred"],
  ["criu", "destination", "held"],
  ["runc", "destination", "held"],
  ["agent", "destination", "populated"],
  ["criu", "source", "populated"],
  ["criu", "destination", "committed"],
  ["agent", "destination", "committed"],
  ["runc", "source", "resumed"],
];

describe("one container is left, whole and movable, when", () => {
  const host = useLab({ memory: "512M" });
  const vms = ["vm-a", "vm-b"];
  let crashes: Crashes;
  let edge: Workload;
  beforeAll(async () => {
    crashes = new Crashes(host.lab);
    edge = await Workload.run(host.lab, "vm-a", "edge", ["edge", "24", "thp"]);
    await crashes.begin();
  });
  beforeEach(() => crashes.disarm());

  it.each(Object.entries(daemonDeaths))(
    "the daemon dies in the state %s",
    { timeout: ROW_MS },
    async (state, { owner, failAt }) => {
      const from = await edge.vm();
      const point = state as State;
      crashes.arm(`kill:${point}`, ...(failAt === undefined ? [] : [`fail:${failAt}` as const]));
      const end = await crashes.mwarp.run(["migrate", "edge", "--to", other(from)]);
      expect(end.exit).not.toBe(0);
      await crashes.settle();
      expect(await expectOneOwner(edge, vms)).toBe(owner === "source" ? from : other(from));
    },
  );

  it.each(long ? everyDeath : someDeaths)(
    "%s on the %s dies in the state %s",
    { timeout: ROW_MS },
    async (program, side, state) => {
      const from = await edge.vm();
      const migration = await crashes.startAndHold(["edge", "--to", other(from), "--json"], state);
      await crashes.killIn(side === "source" ? from : other(from), program, long ? "if any" : "one at least");
      migration.release();
      const end = await migration.finished;
      const report = MigrationReportSchema.parse(JSON.parse(end.stdout));
      await crashes.settle();
      const now = await expectOneOwner(edge, vms);
      if (report.error?.code !== "MWARP_E_NEEDS_RECOVERY")
        expect(now).toBe(report.outcome === "committed" ? other(from) : from);
    },
  );

  it("all of that is over: it moves there and back as ever", async () => {
    await edge.migrate(other(await edge.vm()));
    await edge.migrate(other(await edge.vm()));
    await edge.verify();
  });
});

describe("when a VM is killed in the middle of a migration", () => {
  const host = useLab({ vms: 4, memory: "512M", hugepages: "off" });
  let crashes: Crashes;
  let edge: Workload;
  const start = (vm: string): Promise<Workload> => Workload.run(host.lab, vm, "edge", ["edge", "24", "thp"]);
  beforeAll(async () => {
    crashes = new Crashes(host.lab);
    edge = await start("vm-a");
    await crashes.begin();
  });

  async function killVm(name: string): Promise<void> {
    const { vms } = await host.lab.mwarp.json(VmListSchema, ["vm", "ls"]);
    process.kill(vms.find((vm) => vm.name === name)!.pid, "SIGKILL");
  }

  it("the destination's, before the commit: the source has the container", async () => {
    const migration = await crashes.startAndHold(["edge", "--to", "vm-b", "--json"], "populated");
    await killVm("vm-b");
    migration.release();
    await migration.finished;
    await crashes.settle();
    expect(await expectOneOwner(edge, ["vm-a", "vm-c", "vm-d"])).toBe("vm-a");
  });

  it("the source's, after the commit: the destination has it, in frames that were the dead VM's", async () => {
    const migration = await crashes.startAndHold(
      ["edge", "--to", "vm-c", "--backend", "remap", "--json"],
      "committed",
    );
    await killVm("vm-a");
    migration.release();
    const report = MigrationReportSchema.parse(JSON.parse((await migration.finished).stdout));
    expect(report.memory.remapped_pages).toBeGreaterThan(1000);
    await crashes.settle();
    expect(await expectOneOwner(edge, ["vm-c", "vm-d"])).toBe("vm-c");
    // The rest of the dead VM's memory goes back to the host, and nothing that is still in use with it.
    const log = (): string => readFileSync(path.join(host.lab.stateDir, "daemon.log"), "utf8");
    await expect.poll(log, { timeout: 30_000 }).toContain("freed memory of VMs that have ended");
    await edge.verify();
  });

  it(`the source's, before the commit: the container ended with it, and the destination holds nothing (${lostState})`, async () => {
    const migration = await crashes.startAndHold(["edge", "--to", "vm-d", "--json"], "held");
    await killVm("vm-c");
    crashes.arm(`kill:${lostState}`);
    migration.release();
    await migration.finished;
    expect((await crashes.mwarp.run(["recover"])).exit).not.toBe(0);
    expect(crashes.lastState()).toBe(lostState);
    await crashes.settle();
    const { containers } = await host.lab.daemon.containers();
    expect(containers.map(({ vm, container }) => [vm, container.spec.name])).toEqual([]);
    edge = await start("vm-d");
    expect(await expectOneOwner(edge, ["vm-d"])).toBe("vm-d");
  });
});

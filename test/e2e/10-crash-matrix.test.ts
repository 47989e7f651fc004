/**
 * The crash matrix: whoever dies or stands still at whatever state, afterwards exactly one container runs, every byte of it
 * right, and it can be moved. With MWARP_TEST_LONG every process is killed and stopped at every state, and the container moves
 * after each; without, each state sees the daemon's death and each process a few. VMs die in 10-vm-deaths.test.ts.
 */
import path from "node:path";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type State, successors } from "../../src/migration/states.js";
import { type MigrationReport, MigrationReportSchema } from "../../src/protocol/migration.js";
import { QmpClient } from "../../src/vm/qmp.js";
import { Crashes, deadManOf, type Program, type Side } from "../support/crash.js";
import { useLab } from "../support/lab.js";
import type { Finished } from "../support/mwarp.js";
import { Aftermath } from "../support/one-owner.js";
import { Workload } from "../support/workload.js";

const long = process.env.MWARP_TEST_LONG === "1";
/** Longer than it takes to come to the state, and shorter than who stands still does so. */
const STOPPED_LIMIT = "15s";
const STOPPED_SECONDS = 16;
/** Hold, migrate, settle and verify may each take a minute or two on a slow machine. */
const ROW_MS = 300_000;
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");

/** So that whoever settles it meets frames that were exchanged. */
const remap = ["--backend", "remap"] as const;
type Owner = "source" | "destination";
/** How the daemon comes to die in a state, and who has the container then. A state without an entry does not compile. */
const daemonDeaths: Readonly<
  Record<
    // Of a lost container the daemon dies in 10-vm-deaths.test.ts.
    Exclude<State, "lost">,
    { readonly owner: Owner; readonly failAt?: State; readonly args?: readonly string[] }
  >
> = {
  started: { owner: "source" },
  prepared: { owner: "source" },
  frozen: { owner: "source" },
  dumped: { owner: "source" },
  transferred: { owner: "source" },
  held: { owner: "source" },
  populated: { owner: "source", args: remap },
  committed: { owner: "destination", args: remap },
  resumed: { owner: "destination", args: remap },
  retired: { owner: "destination" },
  aborting: { owner: "source", failAt: "populated" },
  aborted: { owner: "source", failAt: "dumped" },
};
/** States at which a migration can be held up. */
const holdable = (Object.keys(successors) as State[]).filter(
  (state) => !["started", "retired", "aborting", "aborted", "lost"].includes(state),
);
const programs: readonly Program[] = ["agent", "criu", "runc", "mwarp-between"];
const sides: readonly Side[] = ["source", "destination"];
const everyDeath = holdable.flatMap((state) =>
  sides.flatMap((side) => programs.map((program) => [program, side, state] as const)),
);
/** Each process on either side, where its death hurts most. */
const someDeaths: readonly (readonly [Program, Side, State])[] = [
  ["criu", "destination", "prepared"],
  ["agent", "source", "frozen"],
  ["runc", "source", "dumped"],
  ["mwarp-between", "source", "dumped"],
  ["criu", "destination", "held"],
  ["mwarp-between", "destination", "held"],
  ["criu", "source", "populated"],
  ["agent", "destination", "committed"],
];
/** Who has the container when an agent stands still from a state on: whose answers are not needed any more holds nothing up. */
const stoppedAgents = [
  ["source", "prepared", "source"],
  ["source", "frozen", "source"],
  ["source", "dumped", "source"],
  ["source", "transferred", "destination"],
  ["source", "held", "destination"],
  ["source", "populated", "destination"],
  ["destination", "prepared", "source"],
  ["destination", "frozen", "source"],
  ["destination", "dumped", "source"],
  ["destination", "transferred", "source"],
  ["destination", "held", "source"],
  ["destination", "populated", "destination"],
] as const satisfies readonly (readonly [Side, State, Owner])[];
const someStoppedAgents = stoppedAgents.filter(([side, state]) => side === "destination" && state === "held");

describe("one container is left, whole and movable, when", () => {
  const host = useLab({ memory: "512M" });
  const vms = ["vm-a", "vm-b"];
  let crashes: Crashes;
  let edge: Workload;
  let after: Aftermath;
  beforeAll(async () => {
    crashes = new Crashes(host.lab);
    edge = await Workload.run(host.lab, "vm-a", "edge", ["edge", "24", "thp"]);
    after = new Aftermath(edge, vms);
    await crashes.begin();
  });
  beforeEach(() => crashes.disarm());

  const reportOf = ({ stdout }: Finished): MigrationReport => MigrationReportSchema.parse(JSON.parse(stdout));
  const at = (side: Side, from: string): string => (side === "source" ? from : other(from));

  /** Whether a VM's processors run, asked of its VMM: a command of mWarp would start a daemon, which lets them run. */
  async function runs(vm: string): Promise<unknown> {
    using qmp = await QmpClient.open(path.join(host.lab.runDir, "vms", vm, "qmp.sock"));
    return await qmp.execute("query-status");
  }

  it.each(Object.entries(daemonDeaths))(
    "the daemon dies in the state %s",
    { timeout: ROW_MS },
    async (state, { owner, failAt, args = [] }) => {
      const from = await edge.vm();
      const point = state as State;
      crashes.arm(`kill:${point}`, ...(failAt === undefined ? [] : [`fail:${failAt}` as const]));
      const end = await crashes.mwarp.run(["migrate", "edge", "--to", other(from), ...args]);
      expect(end.exit).toBe(8);
      await crashes.settle();
      expect(await after.expectMovable("daemon")).toBe(at(owner, from));
    },
  );

  it("the daemon dies, and the next one in its recovery", { timeout: ROW_MS }, async () => {
    const from = await edge.vm();
    crashes.arm("kill:held", "kill:aborting");
    expect((await crashes.mwarp.run(["migrate", "edge", "--to", other(from)])).exit).toBe(8);
    // Whoever recovers it first dies as soon as the journal says that it is undone, and nothing is yet.
    await crashes.mwarp.run(["recover"]);
    expect(crashes.lastState()).toBe("aborting");
    await crashes.settle();
    expect(await after.expectMovable("recovering daemon")).toBe(from);
  });

  it("the daemon dies, and nobody asks for more than a list", { timeout: ROW_MS }, async () => {
    const from = await edge.vm();
    crashes.arm("kill:transferred");
    expect((await crashes.mwarp.run(["migrate", "edge", "--to", other(from)])).exit).toBe(8);
    crashes.disarm();
    await crashes.mwarp.ok(["ps"]);
    await expect.poll(() => crashes.lastState(), { timeout: 60_000 }).toBe("aborted");
    expect(await after.expectMovable("daemon")).toBe(from);
  });

  it.each<["exchanged" | "stunned", Owner]>([
    ["exchanged", "source"],
    ["stunned", "destination"],
  ])(
    "the daemon and its dead-man helper die with both VMs paused, %s: the %s has it",
    { timeout: ROW_MS },
    async (point, owner) => {
      const from = await edge.vm();
      const daemon = await crashes.daemonPid();
      const migration = await crashes.startAndHold(["edge", "--to", other(from), ...remap], point);
      process.kill(deadManOf(daemon), "SIGKILL");
      process.kill(daemon, "SIGKILL");
      expect((await migration.finished).exit).toBe(8);
      for (const vm of vms) expect(await runs(vm)).toMatchObject({ running: false });
      await crashes.settle();
      expect(await after.expectMovable("dead-man helper and daemon")).toBe(at(owner, from));
    },
  );

  const lonelyDaemons: ["exchanged" | "populated", Owner, number][] = [
    ["exchanged", "destination", 0],
    ["populated", "source", 1],
  ];
  it.each(long ? lonelyDaemons : lonelyDaemons.slice(0, 1))(
    "the dead-man helper alone dies, %s: the %s has it",
    { timeout: ROW_MS },
    async (point, owner, exit) => {
      const from = await edge.vm();
      const daemon = await crashes.daemonPid();
      const migration = await crashes.startAndHold(["edge", "--to", other(from), ...remap], point);
      process.kill(deadManOf(daemon), "SIGKILL");
      migration.release();
      expect((await migration.finished).exit).toBe(exit);
      expect(await after.expectMovable("dead-man helper")).toBe(at(owner, from));
    },
  );

  it.each(long ? everyDeath : someDeaths)(
    "%s on the %s dies in the state %s",
    { timeout: ROW_MS },
    async (program, side, state) => {
      const from = await edge.vm();
      const args = ["edge", "--to", other(from), ...remap, "--json"];
      const migration = await crashes.startAndHold(args, state);
      await crashes.killIn(at(side, from), program, long ? "if any" : "one at least");
      migration.release();
      const report = reportOf(await migration.finished);
      await crashes.settle();
      const now = await after.expectMovable(program);
      if (report.error?.code !== "MWARP_E_NEEDS_RECOVERY")
        expect(now).toBe(report.outcome === "committed" ? other(from) : from);
    },
  );

  const stoppedCrius: [Side, State][] = [
    ["source", "frozen"],
    ["destination", "transferred"],
  ];
  it.each(long ? stoppedCrius : stoppedCrius.slice(0, 1))(
    "CRIU on the %s stands still from the state %s on until the time is up",
    { timeout: ROW_MS },
    async (side, state) => {
      const from = await edge.vm();
      const args = ["edge", "--to", other(from), "--timeout", STOPPED_LIMIT, "--json"];
      const migration = await crashes.startAndHold(args, state);
      const criu = await crashes.stopCriu(at(side, from));
      migration.release();
      await expect.poll(() => crashes.lastState(), { timeout: 60_000 }).toBe("aborting");
      await criu.goOn();
      const end = await migration.finished;
      expect([reportOf(end).error?.code, end.exit]).toEqual(["MWARP_E_TIMEOUT", 1]);
      await crashes.settle();
      expect(await after.expectMovable("criu stopped")).toBe(from);
    },
  );

  it.each(long ? stoppedAgents : someStoppedAgents)(
    "the agent on the %s stands still from the state %s on: the %s has it",
    { timeout: ROW_MS },
    async (side, state, owner) => {
      const from = await edge.vm();
      const args = ["edge", "--to", other(from), "--timeout", STOPPED_LIMIT, "--json"];
      const migration = await crashes.startAndHold(args, state);
      await crashes.stopAgent(at(side, from), STOPPED_SECONDS);
      migration.release();
      const { outcome, error } = reportOf(await migration.finished);
      expect(outcome).toBe(owner === "source" ? "aborted" : "committed");
      if (owner === "source") expect(error?.code).toMatch(/^MWARP_E_(TIMEOUT|NEEDS_RECOVERY)$/);
      await crashes.settle();
      expect(await after.expectMovable("agent stopped")).toBe(at(owner, from));
    },
  );

  it("the destination's VMM stands still before the stun: the source runs while it does", {
    timeout: ROW_MS,
  }, async () => {
    const from = await edge.vm();
    const vmm = await crashes.vmPid(other(from));
    const args = ["edge", "--to", other(from), "--max-stun", "2s", "--json"];
    const migration = await crashes.startAndHold(args, "populated");
    process.kill(vmm, "SIGSTOP");
    try {
      migration.release();
      await expect.poll(() => edge.vm(), { timeout: 90_000, interval: 500 }).toBe(from);
    } finally {
      process.kill(vmm, "SIGCONT");
    }
    const end = await migration.finished;
    expect(reportOf(end).outcome).toBe("aborted");
    await crashes.settle();
    expect(await after.expectMovable("VMM stopped")).toBe(from);
  });
});

/** Nothing that dies in the middle leaves two containers, or none, or a wrong byte. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { MigrationCancelSchema } from "../../src/protocol/api.js";
import { MigrationReportSchema } from "../../src/protocol/migration.js";
import { QmpClient } from "../../src/vm/qmp.js";
import { Crashes, type Held } from "../support/crash.js";
import { DaemonStatusSchema } from "../support/documents.js";
import { useLab } from "../support/lab.js";
import { expectOneOwner, expectTraceless } from "../support/one-owner.js";
import { Workload } from "../support/workload.js";

const long = process.env.MWARP_TEST_LONG === "1";
const host = useLab({ memory: "768M" });
const vms = ["vm-a", "vm-b"];
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");
/** How many times what a whole move takes a limit is that must not pass before all is on the destination. */
const AMPLE = 3;

/** Whether a VM's processors run, asked of its VMM: a command of mWarp would start a daemon. */
async function runState(vm: string): Promise<unknown> {
  using qmp = await QmpClient.open(join(host.lab.runDir, "vms", vm, "qmp.sock"));
  return await qmp.execute("query-status");
}

/** Kills every CRIU in a VM with SIGKILL, `delayMs` after one is seen at the work it was asked for. Resolves at once. */
async function killCriu(vm: string, delayMs: number): Promise<void> {
  // It says so in its title (criu/cr-service.c). Before, it only stands by.
  const works = `for p in $(pgrep -x criu); do grep -qe --rpc /proc/$p/cmdline && break 2; done`;
  const script = `for i in $(seq 6000); do ${works}; sleep 0.005; done; sleep ${delayMs / 1000}; pkill -9 -x criu`;
  await host.lab.guest(vm, "sh", "-c", `(${script}) >/dev/null 2>&1 </dev/null &`);
}

describe("whatever is killed in a migration, one container runs afterwards and its memory is right", () => {
  let edge: Workload;
  beforeAll(async () => {
    edge = await Workload.run(host.lab, "vm-a", "edge", ["edge", "128", "thp"]);
  });

  const delays = [0, 100];
  it.each(delays)("CRIU on the source, %i ms after it began", async (delay) => {
    const from = await edge.vm();
    await killCriu(from, delay);
    const end = await host.lab.mwarp.run(["migrate", "edge", "--to", other(from), "--json"]);
    const report = MigrationReportSchema.parse(JSON.parse(end.stdout));
    if (report.outcome === "aborted") expect([end.exit, await edge.vm()]).toEqual([1, from]);
    else expect([report.outcome, await edge.vm()]).toEqual(["committed", other(from)]);
    await expectOneOwner(edge, vms);
  });

  it.each(delays)("CRIU on the destination, %i ms after it began", async (delay) => {
    const from = await edge.vm();
    await killCriu(other(from), delay);
    const end = await host.lab.mwarp.run(["migrate", "edge", "--to", other(from), "--json"]);
    const report = MigrationReportSchema.parse(JSON.parse(end.stdout));
    if (report.outcome === "aborted") expect([end.exit, await edge.vm()]).toEqual([1, from]);
    else expect([report.outcome, await edge.vm()]).toEqual(["committed", other(from)]);
    await expectOneOwner(edge, vms);
  });

  it("the daemon, and the next one settles it", async () => {
    const from = await edge.vm();
    const command = host.lab.mwarp.start(["migrate", "edge", "--to", other(from)]);
    await command.seen(/dump|transfer|restore/);
    const { pid } = await host.lab.mwarp.json(DaemonStatusSchema, ["daemon", "status"]);
    process.kill(pid, "SIGKILL");
    expect((await command.finished).exit).toBe(8);
    await host.lab.mwarp.ok(["recover"]);
    await expectOneOwner(edge, vms);
  });

  // The daemon kills itself at a fault point: no stranger could hit these instants.
  it.each([
    ["exchanged", "before the commit: every frame goes back"],
    ["stunned", "after the commit: the destination has it"],
  ] as const)("the daemon with both VMs paused, %s, %s", async (fault, _after) => {
    const from = await edge.vm();
    const { mwarp } = host.lab;
    const crashes = new Crashes(host.lab);
    await crashes.begin();
    crashes.arm(`kill:${fault}`);
    const end = await crashes.mwarp.run(["migrate", "edge", "--to", other(from), "--backend", "remap"]);
    expect(end.exit).toBe(8);
    // The dead-man helper ends the stun by itself, before any other daemon is there.
    for (const vm of vms)
      await expect.poll(() => runState(vm), { timeout: 20_000 }).toMatchObject({ running: true });
    expect(crashes.lastJournal()).toContain(
      fault === "stunned" ? '"committed"' : "the daemon died in the stun",
    );
    crashes.disarm();
    await mwarp.ok(["recover"]);
    expect(await edge.vm()).toBe(fault === "stunned" ? other(from) : from);
    await expectOneOwner(edge, vms);
  });

  describe("nothing: a migration that is cancelled", () => {
    let crashes: Crashes;
    beforeAll(async () => {
      crashes = new Crashes(host.lab);
      await crashes.begin();
    });
    beforeEach(() => crashes.disarm());

    async function expectEnd(held: Held, from: string, outcome: "aborted" | "committed"): Promise<void> {
      const end = await held.finished;
      const report = MigrationReportSchema.parse(JSON.parse(end.stdout));
      expect([report.outcome, report.error?.code ?? null, end.exit]).toEqual(
        outcome === "aborted" ? ["aborted", "MWARP_E_CANCELLED", 7] : ["committed", null, 0],
      );
      expect(await expectOneOwner(edge, vms)).toBe(outcome === "aborted" ? from : other(from));
    }

    const cancels = [
      ["before the commit is rolled back", "populated", "cancelling", "aborted"],
      ["after it is finished", "committed", "finishing", "committed"],
    ] as const;
    it.each(long ? cancels : cancels.slice(0, 1))(
      "by `mwarp cancel` %s",
      async (_, state, answer, outcome) => {
        const from = await edge.vm();
        const held = await crashes.startAndHold(["edge", "--to", other(from), "--json"], state);
        expect(await crashes.mwarp.json(MigrationCancelSchema, ["cancel", held.id])).toEqual({
          state: answer,
        });
        held.release();
        await expectEnd(held, from, outcome);
      },
    );

    const interrupts = [
      ["after it is finished", "committed", /past the commit.*finishing/, "committed"],
      ["before the commit is rolled back", "populated", /cancelling: it will be rolled back/, "aborted"],
    ] as const;
    it.each(interrupts)("by Ctrl-C %s", async (_, state, answer, outcome) => {
      const from = await edge.vm();
      const held = await crashes.startAndHold(["edge", "--to", other(from), "--json"], state);
      held.process.kill("SIGINT");
      await held.seen(answer);
      // It is told at once, and asked for a moment later.
      await crashes.mwarp.ok(["ps"]);
      held.release();
      await expectEnd(held, from, outcome);
    });

    it("by its time limit, with all of it on the destination, is rolled back", async () => {
      const { time_ms } = await edge.migrate(other(await edge.vm()));
      const from = await edge.vm();
      const limitS = Math.ceil((AMPLE * time_ms.total) / 1000);
      const started = performance.now();
      const limit = ["--timeout", `${limitS}s`];
      const held = await crashes.startAndHold(["edge", "--to", other(from), ...limit, "--json"], "populated");
      await sleep(limitS * 1000 - (performance.now() - started) + 1000);
      held.release();
      const end = await held.finished;
      const report = MigrationReportSchema.parse(JSON.parse(end.stdout));
      expect([report.outcome, report.error?.code, end.exit]).toEqual(["aborted", "MWARP_E_TIMEOUT", 1]);
      expect(await expectOneOwner(edge, vms)).toBe(from);
    });
  });

  it.each([
    ["that keeps the container still for too long", "--max-downtime"],
    ["that keeps the VMs still for too long", "--max-stun"],
  ])("nothing: a migration %s is rolled back", async (_, limit) => {
    const from = await edge.vm();
    const time = limit === "--max-stun" ? "1ms" : "50ms";
    const args = ["migrate", "edge", "--to", other(from), limit, time, "--json"];
    const end = await host.lab.mwarp.run(args);
    const report = MigrationReportSchema.parse(JSON.parse(end.stdout));
    expect([report.outcome, report.error?.code, end.exit]).toEqual(["aborted", "MWARP_E_TIMEOUT", 1]);
    if (limit === "--max-downtime") expect(report.time_ms.downtime).toBeGreaterThan(0);
    expect(await edge.vm()).toBe(from);
    await expectOneOwner(edge, vms);
  });

  it("nothing: a limit that passes with --on-timeout proceed is told, and the migration goes on", async () => {
    const from = await edge.vm();
    const limits = ["--timeout", "100ms", "--max-downtime", "50ms", "--on-timeout", "proceed"];
    const end = await host.lab.mwarp.run(["migrate", "edge", "--to", other(from), ...limits, "--json"]);
    const report = MigrationReportSchema.parse(JSON.parse(end.stdout));
    expect([report.outcome, report.error, end.exit]).toEqual(["committed", null, 0]);
    expect(end.stderr).toMatch(/not committed within 100 ms; it goes on/);
    expect(end.stderr).toMatch(/stood still for 50 ms before the commit; it goes on/);
    await expectOneOwner(edge, vms);
  });

  it("a container that ended before the freeze, as its dump stood by, and its successor is whole", async () => {
    const crashes = new Crashes(host.lab);
    await crashes.begin();
    const argv = ["pattern", "16", "thp"];
    const late = await Workload.run(host.lab, "vm-a", "late", argv);
    const spec = await late.spec();
    const held = await crashes.startAndHold(["late", "--to", "vm-b", "--json"], "prepared");
    expect((await host.lab.mwarp.refusal(["rm", "-f", "late"])).error.code).toBe("MWARP_E_BUSY");
    // CRIU was told which process to dump.
    await host.lab.guest("vm-a", "pkill", "-9", "-x", "pattern");
    held.release();
    const { outcome, error } = MigrationReportSchema.parse(JSON.parse((await held.finished).stdout));
    expect([outcome, error?.code]).toEqual(["aborted", "MWARP_E_NOT_RUNNING"]);
    crashes.disarm();
    await late.remove();
    for (const vm of vms) await expectTraceless(host.lab, vm, "pattern", spec);
    const successor = await Workload.run(host.lab, "vm-a", "late", argv);
    await successor.migrate("vm-b");
    await successor.verify();
    await successor.remove();
  });

  it("and afterwards it moves as ever, with nothing of the failed tries in either VM", async () => {
    await edge.migrate(other(await edge.vm()));
    await edge.migrate(other(await edge.vm()));
    await edge.verify();
    await sleep(1000);
    for (const vm of vms) {
      expect(
        await host.lab.guest(vm, "sh", "-c", "ps -eo comm= | grep -xE 'criu|runc|mwarp-between' || true"),
      ).toBe("");
    }
  });
});

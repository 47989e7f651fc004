/** Nothing that dies in the middle leaves two containers, or none, or a wrong byte. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, it } from "vitest";
import { MigrationReportSchema } from "../../src/protocol/migration.js";
import { QmpClient } from "../../src/vm/qmp.js";
import { Crashes, expectOneOwner } from "../support/crash.js";
import { DaemonStatusSchema } from "../support/documents.js";
import { useLab } from "../support/lab.js";
import { Workload } from "../support/workload.js";

const host = useLab({ memory: "768M" });
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");

/** Whether a VM's processors run, asked of its VMM: a command of mWarp would start a daemon. */
async function runState(vm: string): Promise<unknown> {
  using qmp = await QmpClient.open(join(host.lab.runDir, "vms", vm, "qmp.sock"));
  return await qmp.execute("query-status");
}

/** Kills every process named `program` in a VM with SIGKILL, `delayMs` after the first of them is seen. Resolves at once. */
async function killWhenSeen(vm: string, program: string, delayMs: number): Promise<void> {
  const script = `i=0; until pgrep -x ${program} >/dev/null || [ $i -gt 3000 ]; do i=$((i+1)); sleep 0.01; done; sleep ${delayMs / 1000}; pkill -9 -x ${program}`;
  await host.lab.guest(vm, "sh", "-c", `(${script}) >/dev/null 2>&1 </dev/null &`);
}

describe("whatever is killed in a migration, one container runs afterwards and its memory is right", () => {
  let edge: Workload;
  beforeAll(async () => {
    edge = await Workload.run(host.lab, "vm-a", "edge", ["edge", "128", "thp"]);
  });

  const delays = [0, 100];
  it.each(delays)("CRIU on the source, %i ms after its start", async (delay) => {
    const from = await edge.vm();
    await killWhenSeen(from, "criu", delay);
    const end = await host.lab.mwarp.run(["migrate", "edge", "--to", other(from), "--json"]);
    const report = MigrationReportSchema.parse(JSON.parse(end.stdout));
    if (report.outcome === "aborted") expect([end.exit, await edge.vm()]).toEqual([1, from]);
    else expect([report.outcome, await edge.vm()]).toEqual(["committed", other(from)]);
    await expectOneOwner(edge, ["vm-a", "vm-b"]);
  });

  it.each(delays)("CRIU on the destination, %i ms after its start", async (delay) => {
    const from = await edge.vm();
    await killWhenSeen(other(from), "criu", delay);
    const end = await host.lab.mwarp.run(["migrate", "edge", "--to", other(from), "--json"]);
    const report = MigrationReportSchema.parse(JSON.parse(end.stdout));
    if (report.outcome === "aborted") expect([end.exit, await edge.vm()]).toEqual([1, from]);
    else expect([report.outcome, await edge.vm()]).toEqual(["committed", other(from)]);
    await expectOneOwner(edge, ["vm-a", "vm-b"]);
  });

  it("the daemon, and the next one settles it", async () => {
    const from = await edge.vm();
    const command = host.lab.mwarp.start(["migrate", "edge", "--to", other(from)]);
    await command.seen(/dump|transfer|restore/);
    const { pid } = await host.lab.mwarp.json(DaemonStatusSchema, ["daemon", "status"]);
    process.kill(pid, "SIGKILL");
    expect((await command.finished).exit).toBe(8);
    await host.lab.mwarp.ok(["recover"]);
    await expectOneOwner(edge, ["vm-a", "vm-b"]);
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
    for (const vm of ["vm-a", "vm-b"])
      await expect.poll(() => runState(vm), { timeout: 20_000 }).toMatchObject({ running: true });
    expect(crashes.lastJournal()).toContain(
      fault === "stunned" ? '"committed"' : "the daemon died in the stun",
    );
    crashes.disarm();
    await mwarp.ok(["recover"]);
    expect(await edge.vm()).toBe(fault === "stunned" ? other(from) : from);
    await expectOneOwner(edge, ["vm-a", "vm-b"]);
  });

  it("nothing: Ctrl-C rolls a migration back, exit status 7", async () => {
    const from = await edge.vm();
    const command = host.lab.mwarp.start(["migrate", "edge", "--to", other(from), "--json"]);
    await command.seen(/prepare|preflight|dump/);
    command.process.kill("SIGINT");
    const end = await command.finished;
    const report = MigrationReportSchema.parse(JSON.parse(end.stdout));
    if (report.outcome === "committed") expect([end.exit, await edge.vm()]).toEqual([0, other(from)]);
    else expect([end.exit, report.error?.code, await edge.vm()]).toEqual([7, "MWARP_E_CANCELLED", from]);
    await expectOneOwner(edge, ["vm-a", "vm-b"]);
  });

  it.each([
    ["whose time is up before the commit", "--timeout"],
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
    await expectOneOwner(edge, ["vm-a", "vm-b"]);
  });

  it("nothing: a limit that passes with --on-timeout proceed is told, and the migration goes on", async () => {
    const from = await edge.vm();
    const limits = ["--timeout", "100ms", "--max-downtime", "50ms", "--on-timeout", "proceed"];
    const end = await host.lab.mwarp.run(["migrate", "edge", "--to", other(from), ...limits, "--json"]);
    const report = MigrationReportSchema.parse(JSON.parse(end.stdout));
    expect([report.outcome, report.error, end.exit]).toEqual(["committed", null, 0]);
    expect(end.stderr).toMatch(/not committed within 100 ms; it goes on/);
    expect(end.stderr).toMatch(/stood still for 50 ms before the commit; it goes on/);
    await expectOneOwner(edge, ["vm-a", "vm-b"]);
  });

  it("and afterwards it moves as ever, with nothing of the failed tries in either VM", async () => {
    await edge.migrate(other(await edge.vm()));
    await edge.migrate(other(await edge.vm()));
    await edge.verify();
    await sleep(1000);
    for (const vm of ["vm-a", "vm-b"]) {
      expect(await host.lab.guest(vm, "sh", "-c", "ps -eo comm= | grep -xE 'criu|runc' || true")).toBe("");
    }
  });
});

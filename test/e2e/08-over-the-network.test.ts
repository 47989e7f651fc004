/** The methods that stock CRIU has: cold, pre-copy and post-copy, every page sent over the VMs' network. */
import { lstatSync, readdirSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { MigrationListSchema } from "../../src/protocol/api.js";
import { type MigrationReport, MigrationReportSchema } from "../../src/protocol/migration.js";
import { Crashes, killVmm } from "../support/crash.js";
import { type TestLab, useLab } from "../support/lab.js";
import { long } from "../support/long.js";
import { expectOneOwner, expectTraceless } from "../support/one-owner.js";
import { Workload } from "../support/workload.js";

const MIB = 1024 ** 2;
const methods = ["cold", "precopy", "postcopy"] as const;
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");

/** Of the files in a root file system's /bin, which is all there is. */
const bytesIn = (rootfs: string): number =>
  readdirSync(path.join(rootfs, "bin"))
    .map((name) => lstatSync(path.join(rootfs, "bin", name)).size)
    .reduce((sum, bytes) => sum + bytes, 0);

/** Everything of the tools, and of what runs them, that is not to outlive a migration; of its files, but for its record. */
async function expectNoCriu(lab: TestLab, vms: readonly string[] = ["vm-a", "vm-b"]): Promise<void> {
  const processes = "pgrep -a criu; pgrep -a runc; pgrep -af '^[^ ]*mwarp-guest (lazy|job)'; true";
  const files = "find /run/mwarp-guest/migrations -mindepth 2 ! -name record.json ! -name 'verdict.*'";
  for (const vm of vms) {
    const left = async (): Promise<string> =>
      `${await lab.guest(vm, "sh", "-c", processes)}${await lab.guest(vm, "sh", "-c", files)}`;
    await expect.poll(left, { timeout: 15_000, interval: 500, message: `what ${vm} has left` }).toBe("");
  }
}

/** Waits in a VM until a task of the container is traced, which CRIU does while it takes its pages in. */
const UNTIL_TRACED =
  "for i in $(seq 2000); do for p in $(cat /sys/fs/cgroup/mwarp/$0/cgroup.procs); do" +
  " grep -q 'TracerPid:.*[1-9]' /proc/$p/status && exit 0; done; sleep 0.01; done; exit 1";
/** Asks a container's program to look at all of its memory, past mWarp, which has it in a migration. */
const LOOK = "kill -USR1 $(head -1 /sys/fs/cgroup/mwarp/$0/cgroup.procs)";

describe("a migration over the network", () => {
  const host = useLab({ memory: "2G" });

  it.each([
    ["edge", ["edge", "96", "scattered"], ["precopy", "postcopy"]],
    ["pattern", ["pattern", "96", "thp"], ["cold"]],
    ["cow", ["cow", "48", "3"], ["postcopy"]],
  ] as const)("moves %s with every page right, and copies every page", async (_, argv, some) => {
    const workload = await Workload.run(host.lab, "vm-a", "network", argv);
    let to = "vm-b";
    for (const method of long ? methods : some) {
      const report = await workload.migrate(to, ["--method", method]);
      await workload.verify();
      expect(report).toMatchObject({ method, backend: null, stun_ms: { source: 0, destination: 0 } });
      expect(report.memory.remapped_pages).toBe(0);
      // Zero pages are not dumped; all else of the least of these workloads is.
      expect(report.memory.copied_pages).toBeGreaterThan(10_000);
      expect(report.memory.network_bytes).toBeGreaterThan(40 * MIB);
      // The images without page contents are all that went through the agents, and the root file system the first time.
      expect(report.memory.channel_bytes).toBeLessThan(bytesIn(host.lab.rootfs) + 4 * MIB);
      to = other(to);
    }
    await workload.remove();
    await expectNoCriu(host.lab);
  });

  it("sends an idle container once before the freeze, and next to nothing after it", async () => {
    const workload = await Workload.run(host.lab, "vm-a", "idle", ["pattern", "96", "thp"]);
    const { rounds, memory, commands } = await workload.migrate("vm-b", ["--method", "precopy"]);
    expect(rounds.length).toBeGreaterThanOrEqual(2);
    expect(rounds[0]!.bytes).toBeGreaterThan(96 * MIB);
    expect(rounds.at(-1)!.bytes).toBeLessThan(8 * MIB);
    const before = rounds.reduce((sum, { bytes }) => sum + bytes, 0);
    expect(memory.network_bytes - before).toBeLessThan(8 * MIB);
    // What was typed for it, for people who would rather do it by hand.
    const typed = commands.map(({ argv }) => argv.join(" "));
    expect(typed.filter((line) => line.includes("--pre-dump")).length).toBe(rounds.length);
    expect(typed.filter((line) => line.startsWith("criu page-server")).length).toBe(rounds.length + 1);
    await workload.verify();
    await workload.remove();
  });

  it("gives up another round when the container writes as fast as it is sent", async () => {
    const workload = await Workload.run(host.lab, "vm-a", "busy", ["edge", "96", "thp"]);
    const { rounds, memory } = await workload.migrate("vm-b", ["--method", "precopy"]);
    expect(rounds.length).toBeLessThan(16);
    const before = rounds.reduce((sum, { bytes }) => sum + bytes, 0);
    // It wrote all the while: the freeze had to send much of it again.
    expect(memory.network_bytes - before).toBeGreaterThan(20 * MIB);
    await workload.verify();
    await workload.remove();
  });

  it("resumes a container before its pages are there, and its source is cleared when they are", async () => {
    const workload = await Workload.run(host.lab, "vm-a", "later", ["pattern", "192", "thp"]);
    const { time_ms, memory } = await workload.migrate("vm-b", ["--method", "postcopy"]);
    expect(memory.network_bytes).toBeGreaterThan(192 * MIB);
    expect(time_ms.phases.retire).toBeGreaterThan(0);
    await workload.verify();
    await expectTraceless(host.lab, "vm-a", "pattern", await workload.spec());
    await workload.remove();
  });

  it("shows in the history beside a warp, with the phases of each", async () => {
    const workload = await Workload.run(host.lab, "vm-a", "both", ["pattern", "64", "thp"]);
    await workload.migrate("vm-b", ["--method", "cold"]);
    await workload.migrate("vm-a", ["--method", "warp"]);
    const { migrations } = await host.lab.mwarp.json(MigrationListSchema, ["history"]);
    const mine = migrations.filter(({ request }) => request.container === "both");
    expect(mine.map(({ request, state }) => [request.method, state]).sort()).toEqual([
      ["cold", "done"],
      ["warp", "done"],
    ]);
    for (const { report } of mine) {
      const { total, downtime, phases } = report!.time_ms;
      expect(downtime).toBeGreaterThan(0);
      expect(total).toBeGreaterThanOrEqual(downtime);
      const sum = Object.values(phases).reduce((all, one) => all + one, 0);
      expect(sum).toBeLessThanOrEqual(total * 1.02 + 5);
    }
    await workload.remove();
  });
});

describe("a migration over the network that goes wrong", () => {
  const host = useLab({ vms: 3, memory: "1280M" });
  let crashes: Crashes;
  let workload: Workload;
  beforeAll(async () => {
    crashes = new Crashes(host.lab);
    workload = await Workload.run(host.lab, "vm-a", "edge", ["edge", "96", "thp"]);
    await crashes.begin();
  });
  afterEach(() => crashes.disarm());

  const ended = (text: string): MigrationReport => MigrationReportSchema.parse(JSON.parse(text));

  it("leaves a container in a round that was interrupted running, and it moves afterwards", async () => {
    const from = await workload.vm();
    const command = crashes.mwarp.start(["migrate", "edge", "--to", other(from), "--method", "precopy"]);
    await command.seen(/prepare/);
    await host.lab.guest(from, "sh", "-c", UNTIL_TRACED, "edge");
    command.process.kill("SIGINT");
    expect((await command.finished).exit).toBe(7);
    expect(await expectOneOwner(workload, ["vm-a", "vm-b"])).toBe(from);
    await expectNoCriu(host.lab);
    await workload.migrate(other(from), ["--method", "precopy"]);
    await workload.verify();
  });

  const deaths = [
    ["postcopy", "source"],
    ["postcopy", "destination"],
    ["precopy", "source"],
    ["precopy", "destination"],
  ] as const;
  it.each(long ? deaths : deaths.slice(0, 2))(
    "goes on with a %s whose CRIU died on the %s when it needs it no more, or rolls back",
    async (method, side) => {
      const from = await workload.vm();
      const args = ["edge", "--to", other(from), "--method", method, "--json"];
      const held = await crashes.startAndHold(args, side === "source" ? "dumped" : "held");
      await crashes.killIn(side === "source" ? from : other(from), "criu", "one at least");
      held.release();
      const report = ended((await held.finished).stdout);
      // A dump that is complete and restored tasks need CRIU no more, the freezer has both; pages that are still to come do.
      const needsCriu = method === "postcopy";
      const end = needsCriu ? ["aborted", from] : ["committed", other(from)];
      expect([report.outcome, await workload.vm()]).toEqual(end);
      await expectOneOwner(workload, ["vm-a", "vm-b"]);
      await expectNoCriu(host.lab);
    },
  );

  const failures = ["held", "transferred"] as const;
  it.each(long ? failures : failures.slice(0, 1))(
    "rolls a postcopy back at %s, when the source serves its pages",
    async (state) => {
      const from = await workload.vm();
      crashes.arm(`fail:${state}`);
      const end = await crashes.mwarp.run([
        "migrate",
        "edge",
        "--to",
        other(from),
        "--method",
        "postcopy",
        "--json",
      ]);
      expect(ended(end.stdout).outcome).toBe("aborted");
      crashes.disarm();
      expect(await expectOneOwner(workload, ["vm-a", "vm-b"])).toBe(from);
      await expectNoCriu(host.lab);
    },
  );

  const daemonDeaths = [
    ["postcopy", "committed"],
    ["precopy", "prepared"],
    ["postcopy", "transferred"],
    ["postcopy", "resumed"],
  ] as const;
  it.each(long ? daemonDeaths : daemonDeaths.slice(0, 2))(
    "settles a %s whose daemon dies when it is %s",
    async (method, state) => {
      const from = await workload.vm();
      crashes.arm(`kill:${state}`);
      const end = await crashes.mwarp.run(["migrate", "edge", "--to", other(from), "--method", method]);
      expect(end.exit).toBe(8);
      crashes.disarm();
      await crashes.settle();
      const committed = state === "committed" || state === "resumed";
      expect(await expectOneOwner(workload, ["vm-a", "vm-b"])).toBe(committed ? other(from) : from);
      await expectNoCriu(host.lab);
    },
  );

  const silent = [
    ["its keeper", "pkill -9 -f '[m]warp-guest lazy'"],
    ["CRIU", "pkill -9 -f '^criu lazy-pages'"],
  ] as const;
  it.each(long ? silent : silent.slice(0, 1))(
    "ends a container whose pages will never come as %s died, before it reads zeros in their place",
    async (_, kill) => {
      const big = await Workload.run(host.lab, "vm-a", "big", ["pattern", "512", "thp"]);
      const spec = await big.spec();
      const args = ["big", "--to", "vm-b", "--method", "postcopy", "--json"];
      const held = await crashes.startAndHold(args, "resumed");
      await host.lab.guest("vm-b", "sh", "-c", LOOK, "big");
      await host.lab.guest("vm-b", "sh", "-c", kill);
      await sleep(500);
      held.release();
      const report = ended((await held.finished).stdout);
      expect(report.error).toMatchObject({ code: "MWARP_E_CONTAINER_LOST" });
      expect(crashes.lastState()).toBe("lost");
      const { containers } = await host.lab.daemon.containers();
      expect(containers.filter(({ container }) => container.spec.name === "big")).toMatchObject([
        { vm: "vm-b", container: { status: "stopped" } },
      ]);
      expect((await big.lines()).join("\n")).not.toContain("BAD");
      await expectTraceless(host.lab, "vm-a", "pattern", spec);
      await big.remove();
      await expectNoCriu(host.lab);
    },
  );

  it("gives a container back to its source when the VM that its pages go to is killed", async () => {
    const from = await workload.vm();
    const pid = await crashes.vmPid("vm-c");
    const command = crashes.mwarp.start(["migrate", "edge", "--to", "vm-c", "--method", "cold", "--json"]);
    await host.lab.guest(from, "sh", "-c", UNTIL_TRACED, "edge");
    await killVmm(pid);
    expect(ended((await command.finished).stdout).outcome).toBe("aborted");
    await crashes.settle();
    expect(await expectOneOwner(workload, ["vm-a", "vm-b"])).toBe(from);
    await expectNoCriu(host.lab);
  });

  it("says that a container is lost when the VM that still serves its pages is killed", async () => {
    const big = await Workload.run(host.lab, "vm-a", "big", ["pattern", "512", "thp"]);
    if ((await workload.vm()) === "vm-a") await workload.migrate("vm-b");
    const pid = await crashes.vmPid("vm-a");
    const args = ["big", "--to", "vm-b", "--method", "postcopy", "--json"];
    const held = await crashes.startAndHold(args, "resumed");
    await host.lab.guest("vm-b", "sh", "-c", LOOK, "big");
    await killVmm(pid);
    held.release();
    const report = ended((await held.finished).stdout);
    expect(report.error).toMatchObject({ code: "MWARP_E_CONTAINER_LOST" });
    expect(report.error!.message).toContain("source VM ended");
    expect((await big.lines()).join("\n")).not.toContain("BAD");
    // The neighbour there goes on.
    await workload.verify();
    await expectNoCriu(host.lab, ["vm-b"]);
  });
});

/**
 * Memory that is faulted in before the freeze and handed over by fork (native/criu/handover.h). That most of the other tests' moves
 * are staged is the larger part of its proof; here is what can be wrong with it alone.
 */
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { MIB } from "../../src/units.js";
import { Crashes } from "../support/crash.js";
import { useLab } from "../support/lab.js";
import { expectOneOwner } from "../support/one-owner.js";
import { until } from "../support/wait.js";
import { Workload } from "../support/workload.js";

const MINUTES = 60_000;
const PAGES_PER_MIB = 256;
const host = useLab({ memory: "1G" });
const vms = ["vm-a", "vm-b"];
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");
const LIBRARY = "/usr/local/bin/libmwarp-handover.so";

/** Flags of the mappings of 4 MiB and more that the first task has, and how much of them is in huge pages, KiB. */
async function largeMappings(workload: Workload): Promise<{ flags: string; huge: number }[]> {
  const vm = await workload.vm();
  const pid = (await host.lab.guest(vm, "cat", `/run/mwarp-guest/containers/${workload.name}/pid`)).trim();
  const smaps = await host.lab.guest(vm, "cat", `/proc/${pid}/smaps`);
  return smaps.split(/(?=^[0-9a-f]+-[0-9a-f]+ )/m).flatMap((text) => {
    const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text)?.[1]);
    if (!(kib("Anonymous") >= 4096)) return [];
    return [{ flags: /^VmFlags: (.*?) *$/m.exec(text)?.[1] ?? "", huge: kib("AnonHugePages") }];
  });
}

async function chargedBytes(vm: string, { name }: Workload): Promise<number> {
  return Number(await host.lab.guest(vm, "cat", `/sys/fs/cgroup/mwarp/${name}/memory.current`));
}

async function freeBytes(vm: string): Promise<number> {
  const text = await host.lab.guest(vm, "cat", "/proc/meminfo");
  return Number(/^MemAvailable:\s+(\d+) kB$/m.exec(text)?.[1]) * 1024;
}

describe("a staged move", () => {
  it(
    "leaves next to nothing to be populated; memory is charged, advised and in huge pages as before",
    async () => {
      const workload = await Workload.run(host.lab, "vm-a", "pattern", ["pattern", "128", "thp"]);
      const before = {
        mappings: await largeMappings(workload),
        charged: await chargedBytes("vm-a", workload),
      };
      expect(before.mappings).toEqual([{ flags: expect.any(String), huge: 128 * 1024 }]);
      const planned = async (strategy: string): Promise<unknown> => {
        const args = ["migrate", "pattern", "--to", "vm-b", "--strategy", strategy, "--dry-run", "--json"];
        return JSON.parse(await host.lab.mwarp.ok(args)).strategy;
      };
      expect([await planned("staged"), await planned("eager")]).toEqual(["staged", "eager"]);
      for (const to of ["vm-b", "vm-a"]) {
        const { strategy, memory } = await workload.migrate(to, ["--strategy", "staged"]);
        expect(strategy).toBe("staged");
        expect(memory.staged_pages).toBeGreaterThanOrEqual(128 * PAGES_PER_MIB);
        expect(memory.handed_pages).toBeGreaterThanOrEqual(128 * PAGES_PER_MIB);
        await workload.verify();
        expect(await largeMappings(workload)).toEqual(before.mappings);
        const charged = await chargedBytes(to, workload);
        expect(Math.abs(charged - before.charged), "bytes charged more or less").toBeLessThan(8 * MIB);
      }
      await workload.remove();
    },
    3 * MINUTES,
  );

  it(
    "is right for every task of a family that shares memory copy-on-write",
    async () => {
      const family = await Workload.run(host.lab, "vm-a", "family", ["cow", "24", "3"]);
      for (const to of ["vm-b", "vm-a"]) {
        const { memory } = await family.migrate(to, ["--strategy", "staged"]);
        expect(memory.handed_pages).toBeGreaterThanOrEqual(4 * 24 * PAGES_PER_MIB);
        await family.verify();
      }
      await family.remove();
    },
    3 * MINUTES,
  );

  it.each([
    ["that is not there", "rm", "libmwarp-handover.so is missing"],
    ["that cannot be loaded", "truncate -s 0", "CRIU did not load"],
  ])(
    "is eager with a library %s, and says why",
    async (_, spoil, why) => {
      const workload = await Workload.run(host.lab, "vm-a", "plain", ["pattern", "32", "thp"]);
      await host.lab.guest("vm-b", "sh", "-ec", `cp ${LIBRARY} ${LIBRARY}.kept; ${spoil} ${LIBRARY}`);
      try {
        const args = ["migrate", "plain", "--to", "vm-b", "--strategy", "staged", "--json"];
        const end = await host.lab.mwarp.run(args);
        expect([end.exit, end.stderr]).toEqual([0, expect.stringContaining(why)]);
        expect(JSON.parse(end.stdout)).toMatchObject({ outcome: "committed", strategy: "eager" });
      } finally {
        await host.lab.guest("vm-b", "mv", `${LIBRARY}.kept`, LIBRARY);
      }
      await workload.verify();
      await workload.remove();
    },
    2 * MINUTES,
  );

  it(
    "is refused for a method that exchanges nothing",
    async () => {
      const end = await host.lab.mwarp.run([
        "migrate",
        "nobody",
        "--to",
        "vm-b",
        "--method",
        "cold",
        "--strategy",
        "staged",
      ]);
      expect([end.exit, end.stderr]).toEqual([2, expect.stringContaining("--strategy")]);
    },
    MINUTES,
  );
});

describe("after memory was staged", () => {
  let crashes: Crashes;
  beforeAll(async () => {
    crashes = new Crashes(host.lab);
    await crashes.begin();
  });
  beforeEach(() => crashes.disarm());

  it(
    "a container whose memory then takes another shape is right to the last page, and has no more of it",
    async () => {
      const churn = await Workload.run(host.lab, "vm-a", "churn", ["churn", "16"]);
      const held = await crashes.startAndHold(
        ["churn", "--to", "vm-b", "--strategy", "staged", "--json"],
        "prepared",
      );
      const request = { argv: ["kill", "-USR2", "1"], env: [], cwd: null };
      await host.lab.daemon.exec("churn", request, { stdin: null, write: () => undefined });
      await until(
        "the shape to change",
        async () => (await churn.lines()).find((line) => line.includes("changed")),
        {
          timeoutMs: MINUTES,
          intervalMs: 200,
        },
      );
      const charged = await chargedBytes("vm-a", churn);
      held.release();
      const end = await held.finished;
      const report = JSON.parse(end.stdout);
      expect([end.exit, report.strategy]).toEqual([0, "staged"]);
      expect(report.memory.handed_pages).toBeGreaterThan(0);
      await churn.verify();
      // What was given back between staging and freeze, and what was unmapped, is not there again.
      expect((await chargedBytes("vm-b", churn)) - charged, "bytes charged more").toBeLessThan(8 * MIB);
      const back = await churn.migrate("vm-a", ["--strategy", "staged"]);
      expect(back.strategy).toBe("staged");
      await churn.verify();
      await churn.remove();
    },
    4 * MINUTES,
  );

  it.each([
    ["criu", "prepared"],
    ["agent", "prepared"],
    ["agent", "held"],
    ["agent", "committed"],
  ] as const)(
    "the destination's %s may die at %s: the container runs on one side, every page right, and nothing stays staged",
    async (program, point) => {
      const workload = await Workload.run(host.lab, "vm-a", "struck", ["pattern", "96", "thp"]);
      const from = await workload.vm();
      const free = await freeBytes(other(from));
      const held = await crashes.startAndHold(["struck", "--to", other(from), "--strategy", "staged"], point);
      await crashes.killIn(other(from), program, "one at least");
      held.release();
      await held.finished;
      await crashes.settle();
      const now = await expectOneOwner(workload, vms);
      expect(now).toBe(point === "committed" ? other(from) : from);
      await workload.remove();
      // All of it was 96 MiB.
      await expect
        .poll(() => freeBytes(other(from)), { timeout: 20_000, interval: 500, message: "bytes free again" })
        .toBeGreaterThan(free - 32 * MIB);
    },
    4 * MINUTES,
  );
});

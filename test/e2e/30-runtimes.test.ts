/** Containers of other OCI runtimes than runc move as its own do, and the runtime knows them on the other side. */
import { describe, expect, it } from "vitest";
import type { ContainerListing } from "../../src/protocol/api.js";
import { Crashes } from "../support/crash.js";
import { PsSchema } from "../support/documents.js";
import { useLab } from "../support/lab.js";
import { until } from "../support/wait.js";
import { Workload } from "../support/workload.js";

const host = useLab({ memory: "768M" });
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");

/** What crun in a VM says of its containers: names and states. */
const crunList = async (vm: string): Promise<string[]> => {
  const said = await host.lab.guest(vm, "crun", "list", "--format", "json");
  return (JSON.parse(said || "[]") as { id: string; status: string }[]).map(
    ({ id, status }) => `${id} ${status}`,
  );
};

/** The agent looks for its tools when it starts; the guest's init starts it again. */
async function restartAgent(vm: string, before: string): Promise<void> {
  await host.lab.guest(vm, "sh", "-ec", before);
  const agent = (): Promise<string> =>
    host.lab.guest(vm, "pgrep", "-of", "^[^ ]*node .*agent.mjs").catch(() => "");
  const old = await agent();
  expect(old).not.toBe("");
  await host.lab.guest(vm, "sh", "-c", `(sleep 0.2; kill ${old.trim()}) >/dev/null 2>&1 </dev/null &`);
  await until("another agent", async () => ![old, ""].includes(await agent()) || undefined, {
    timeoutMs: 30_000,
    intervalMs: 500,
  });
  await host.lab.ready();
}

describe("a container of crun's", () => {
  it("moves there and back with every page right, and crun executes in it on the other side", async () => {
    const extra = ["--runtime", "crun"];
    const pattern = await Workload.run(host.lab, "vm-a", "pattern", ["pattern", "96", "thp"], extra);
    for (const strategy of ["staged", "eager"]) {
      const [from, to] = [await pattern.vm(), other(await pattern.vm())];
      const report = await pattern.migrate(to, ["--strategy", strategy]);
      expect(report.commands.map(({ argv }) => argv[0])).toEqual(["crun", "crun"]);
      if (strategy === "staged") expect(report.memory.handed_pages).toBeGreaterThan(10_000);
      await pattern.verify();
      expect(await crunList(to)).toEqual(["pattern running"]);
      expect(await crunList(from)).toEqual([]);
      // What was staged is charged to the container, also where crun leaves CRIU outside of its control group.
      const { containers } = await host.lab.mwarp.json(PsSchema, ["ps"]);
      expect(containers[0]?.memory_bytes).toBeGreaterThan(90 * 1024 * 1024);
    }
    await pattern.remove();
  });

  it("keeps its log, its files, its limits and its clock, and is stopped and removed as ever", async () => {
    const script =
      'trap "echo bye; exit 41" USR1; i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done';
    const extra = ["--runtime", "crun", "--memory-limit", "64M"];
    const loud = await Workload.start(host.lab, "vm-a", "loud", ["sh", "-c", script], extra);
    const sh = (command: string): Promise<string> =>
      host.lab.mwarp.ok(["exec", "loud", "--", "sh", "-c", command]);
    await sh("echo kept > /kept");
    const uptime = async (): Promise<number> => Number((await sh("cat /proc/uptime")).split(" ")[0]);
    const before = await uptime();
    await loud.migrate("vm-b");
    expect(await sh("cat /kept")).toBe("kept\n");
    // The clock of the VM it came from, which was up for longer or less long than this one.
    const gained = (await uptime()) - before;
    expect(gained).toBeGreaterThan(0);
    expect(gained).toBeLessThan(60);
    const limit = await host.lab.guest("vm-b", "cat", "/sys/fs/cgroup/mwarp/loud/memory.max");
    expect(limit.trim()).toBe(`${64 * 1024 * 1024}`);
    await sh("kill -USR1 1");
    const ended = await until(
      "its end",
      async () => {
        const { containers } = await host.lab.mwarp.json(PsSchema, ["ps"]);
        return containers.find(({ name, status }) => name === "loud" && status === "stopped");
      },
      { timeoutMs: 30_000, intervalMs: 300 },
    );
    expect(ended).toMatchObject({ vm: "vm-b", exit_code: 41, runtime: "crun" });
    const lines = await loud.lines();
    expect(lines.at(-1)).toBe("bye");
    expect(lines.slice(0, -1)).toEqual(lines.slice(0, -1).map((_, i) => `line ${i + 1}`));
    await loud.remove();
    expect(await crunList("vm-b")).toEqual([]);
  });

  it("has its health checked and is started again, also on the other side", async () => {
    const flags = ["--health-cmd", "test -e /fit", "--health-interval", "500ms", "--restart", "always"];
    const script = "echo up; echo > /fit; while :; do sleep 0.2; done";
    const extra = ["--runtime", "crun", ...flags];
    const kept = await Workload.start(host.lab, "vm-a", "kept", ["sh", "-c", script], extra);
    const seen = (what: string, is: (found: ContainerListing) => boolean): Promise<ContainerListing> =>
      until(
        what,
        async () => {
          const { containers } = await host.lab.daemon.containers();
          return containers.find((found) => found.container.spec.name === "kept" && is(found));
        },
        { timeoutMs: 60_000, intervalMs: 300 },
      );
    const lastCheck = ({ container: { health } }: ContainerListing): string =>
      health?.results.at(-1)?.startedAt ?? "";
    await seen("its health", ({ container }) => container.health?.status === "healthy");
    await kept.migrate("vm-b");
    const arrived = await seen("its arrival", ({ vm }) => vm === "vm-b");
    const checked = await seen("a check in vm-b", (found) => lastCheck(found) > lastCheck(arrived));
    expect(checked.container.health).toMatchObject({ status: "healthy", failingStreak: 0 });
    await host.lab.guest("vm-b", "kill", "-9", String(checked.container.pid));
    const again = await seen("another start", ({ container }) => container.restart.count === 1);
    expect(again).toMatchObject({ vm: "vm-b", container: { spec: { runtime: "crun" } } });
    await until("it to be up again", async () => (await kept.lines()).length === 2 || undefined, {
      timeoutMs: 60_000,
      intervalMs: 300,
    });
    expect(await crunList("vm-b")).toEqual(["kept running"]);
    await kept.remove();
  });

  it("is one, and moves again, when CRIU is killed: when it has dumped, or while the restored tasks wait for the commit", async () => {
    const crashes = new Crashes(host.lab);
    await crashes.begin();
    const extra = ["--runtime", "crun"];
    const edge = await Workload.run(host.lab, "vm-a", "edge", ["edge", "32", "thp"], extra);
    for (const [from, to, point, killedIn] of [
      ["vm-a", "vm-b", "dumped", "vm-a"],
      ["vm-b", "vm-a", "held", "vm-a"],
    ] as const) {
      const held = await crashes.startAndHold(["edge", "--to", to], point);
      await crashes.killIn(killedIn, "criu", "one at least");
      held.release();
      expect([point, (await held.finished).exit]).toEqual([point, 0]);
      expect(await edge.vm()).toBe(to);
      await edge.verify();
      // Also where crun has not seen the end of the restore it has a record, and can be asked for all as before.
      expect([await crunList(from), await crunList(to)]).toEqual([[], ["edge running"]]);
    }
    await edge.migrate("vm-b");
    await edge.verify();
    await edge.remove();
  });

  it("is refused by name where the destination's crun cannot use CRIU, and by methods that send its memory", async () => {
    const extra = ["--runtime", "crun"];
    const idle = await Workload.run(host.lab, "vm-a", "idle", ["pattern", "8", "thp"], extra);
    const cold = await host.lab.mwarp.refusal(["migrate", "idle", "--to", "vm-b", "--method", "cold"]);
    expect([cold.exit, cold.error.code]).toEqual([5, "MWARP_E_UNSUPPORTED"]);
    expect(cold.error.message).toContain("--method cold");
    expect(cold.error.hint).toContain("--method warp");
    await restartAgent("vm-b", "mv /etc/ld.so.cache /etc/ld.so.kept");
    try {
      const refusal = await host.lab.mwarp.refusal(["migrate", "idle", "--to", "vm-b"]);
      expect([refusal.exit, refusal.error.code]).toEqual([5, "MWARP_E_CRUN_TOO_OLD"]);
      expect(refusal.error.message).toContain("crun in vm-b cannot use CRIU");
    } finally {
      await restartAgent("vm-b", "mv /etc/ld.so.kept /etc/ld.so.cache");
    }
    await idle.migrate("vm-b");
    await idle.verify();
    await idle.remove();
  });
});

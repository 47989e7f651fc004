/** Containers that end are started again where they are by then, and by nobody else; their health is looked after wherever they go. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import * as z from "zod/mini";
import { psEntry } from "../../src/cli/commands/ps.js";
import { Crashes } from "../support/crash.js";
import { ContainerEntrySchema } from "../support/documents.js";
import { useLab } from "../support/lab.js";
import { until } from "../support/wait.js";
import { Workload } from "../support/workload.js";

const host = useLab({ memory: "512M" });
const POLL = { timeoutMs: 60_000, intervalMs: 300 };

const exec = (name: string, ...argv: string[]): Promise<string> =>
  host.lab.mwarp.ok(["exec", name, "--", ...argv]);

type Entry = ReturnType<typeof psEntry>;

/** What `ps` says of a container, of which there must be one, once every agent answers. */
async function entryOf(name: string): Promise<Entry> {
  const named = await until(
    "a listing of all VMs",
    async () => {
      const { containers, unreachable } = await host.lab.daemon.containers();
      const entries = containers.map(psEntry).filter((entry) => entry.name === name);
      return unreachable.length === 0 ? entries : undefined;
    },
    POLL,
  );
  expect(named.map(({ vm }) => vm)).toHaveLength(1);
  return named[0]!;
}

const seen = (name: string, what: string, test: (entry: Entry) => boolean): Promise<Entry> =>
  until(
    `${name}: ${what}`,
    async () => {
      const entry = await entryOf(name);
      return test(entry) ? entry : undefined;
    },
    POLL,
  );

const restarted = (name: string, count: number): Promise<Entry> =>
  seen(name, `restart ${count}`, (entry) => entry.status === "running" && entry.restart.count === count);

/** Kills the first process of a container, as nothing inside can. */
async function killInit(name: string): Promise<void> {
  const { vm, pid } = await entryOf(name);
  await host.lab.guest(vm, "kill", "-9", String(pid));
}

/** Says "up" whenever it is started, and ends with 3 when it is told to. */
const TOLD = "echo up; trap 'exit 3' USR1; while :; do sleep 1000 & wait; done";
const ups = async (work: Workload): Promise<number> =>
  (await work.lines()).filter((line) => line === "up").length;

/** One that a failed test has left would take processors from those that follow. */
afterEach(async () => {
  const { containers } = await host.lab.daemon.containers();
  for (const { container } of containers) await host.lab.mwarp.run(["rm", "-f", container.spec.name]);
});

describe("a container with a restart policy", () => {
  it("is started again by the VM that it has moved to, which goes on counting, until its policy has had enough", async () => {
    const { lab } = host;
    const told = await Workload.start(lab, "vm-a", "told", ["sh", "-c", TOLD], ["--restart", "on-failure:2"]);
    await until("it to be up", async () => ((await ups(told)) === 1 ? true : undefined), POLL);
    await exec("told", "sh", "-c", "echo mine > /kept");
    // It may end together with the container.
    await lab.mwarp.run(["exec", "told", "--", "kill", "-USR1", "1"]);
    const first = await restarted("told", 1);
    expect(first).toMatchObject({ vm: "vm-a", restart: { policy: "on-failure:2", due_in_ms: null } });
    await told.migrate("vm-b");
    await killInit("told");
    const second = await restarted("told", 2);
    expect([second.vm, second.ipv4, second.mac]).toEqual(["vm-b", first.ipv4, first.mac]);
    await until("it to be up again", async () => ((await ups(told)) === 3 ? true : undefined), POLL);
    expect(await exec("told", "cat", "/kept")).toBe("mine\n");
    // One that was started anew in a VM that it had moved to moves as any other.
    await told.migrate("vm-a");
    await killInit("told");
    expect(await lab.mwarp.ok(["wait", "--container", "told"])).toBe("137\n");
    expect(await entryOf("told")).toMatchObject({
      vm: "vm-a",
      status: "stopped",
      exit_code: 137,
      out_of_memory: false,
      restart: { count: 2 },
    });
    expect(await ups(told)).toBe(3);
    await lab.mwarp.ok(["start", "told"]);
    expect(await entryOf("told")).toMatchObject({ status: "running", restart: { count: 0 } });
    await told.remove();
  });

  it("waits longer each time, does not move meanwhile, and is looked after by the next agent, until somebody stops it", async () => {
    const { lab } = host;
    await Workload.start(lab, "vm-a", "short", ["sh", "-c", "echo up; exit 5"], ["--restart", "always"]);
    const waiting = (least: number): Promise<Entry> =>
      seen("short", `more than ${least} restarts`, ({ status, restart }) => {
        return status === "restarting" && restart.count > least && restart.due_in_ms !== null;
      });
    const before = await waiting(3);
    const { exit, error } = await lab.mwarp.refusal(["migrate", "short", "--to", "vm-b"]);
    expect([exit, error.code]).toEqual([5, "MWARP_E_NOT_RUNNING"]);
    expect(error.message).toContain("waits to be started again");
    await new Crashes(lab).killIn("vm-a", "agent", "one at least");
    const after = await waiting(before.restart.count);
    expect(after.exit_code).toBe(5);
    const stopped = z.pick(ContainerEntrySchema, { name: true, exit_code: true });
    expect(await lab.mwarp.json(stopped, ["stop", "short"])).toEqual({ name: "short", exit_code: 5 });
    const { restart } = await entryOf("short");
    await sleep(3000);
    expect(await entryOf("short")).toMatchObject({ status: "stopped", restart: { count: restart.count } });
    await lab.mwarp.ok(["rm", "short"]);
  });

  it("that ends while no agent is there is started again by the next one, and one that was stopped is not", async () => {
    const { lab } = host;
    const left = await Workload.start(lab, "vm-b", "left", ["sh", "-c", TOLD], ["--restart", "always"]);
    const { pid } = await entryOf("left");
    const agent = "$(pgrep -of agent[.]mjs)";
    const script = `a=${agent}; (sleep 0.3; kill -STOP $a; kill -9 ${pid}; sleep 1; kill -9 $a) >/dev/null 2>&1 </dev/null &`;
    await lab.guest("vm-b", "sh", "-c", script);
    await restarted("left", 1);
    await lab.mwarp.ok(["stop", "left", "--time", "0", "--signal", "USR1"]);
    await new Crashes(lab).killIn("vm-b", "agent", "one at least");
    await sleep(2000);
    expect(await entryOf("left")).toMatchObject({ status: "stopped", restart: { count: 1 } });
    await left.remove();
  });

  it("is never started again by the source, whose agent may be another by then", async () => {
    const { lab } = host;
    const crashes = new Crashes(lab);
    await crashes.begin();
    const gone = await Workload.start(lab, "vm-a", "gone", ["sh", "-c", TOLD], ["--restart", "always"]);
    await until("it to be up", async () => ((await ups(gone)) === 1 ? true : undefined), POLL);
    const held = await crashes.startAndHold(["gone", "--to", "vm-b"], "committed");
    // Frozen they stay, but what if they end before they are retired?
    await lab.guest("vm-a", "sh", "-c", "echo 1 > /sys/fs/cgroup/mwarp/gone/cgroup.kill");
    await sleep(1500);
    held.release();
    await held.finished;
    await crashes.killIn("vm-a", "agent", "one at least");
    await crashes.settle();
    await sleep(1500);
    expect(await entryOf("gone")).toMatchObject({ vm: "vm-b", status: "running", restart: { count: 0 } });
    expect(await ups(gone)).toBe(1);
    expect(await lab.guest("vm-a", "ls", "/run/mwarp-guest/containers")).not.toContain("gone");
    await killInit("gone");
    expect((await restarted("gone", 1)).vm).toBe("vm-b");
    await gone.remove();
  });

  it("tells of one that had no memory left", async () => {
    const { lab } = host;
    const extra = ["--memory-limit", "16M"];
    const hog = await Workload.start(lab, "vm-a", "hog", ["sh", "-c", "exec tail /dev/zero"], extra);
    const end = await seen("hog", "its end", ({ status }) => status === "stopped");
    expect(end).toMatchObject({ exit_code: 137, out_of_memory: true });
    await hog.remove();
  });
});

describe("health checks", () => {
  it("go on where the container is, and no move makes them fail, whenever it finds them", async () => {
    const { lab } = host;
    // One is under way most of the time, and the next is due before any move could be over.
    const check = "test -e /sick && echo unwell && exit 1; sleep 2; echo well";
    const flags = ["--health-cmd", check, "--health-interval", "500ms", "--health-retries", "2"];
    const well = await Workload.start(lab, "vm-a", "well", ["sh", "-c", TOLD], flags);
    const healthy = (entry: Entry): boolean => entry.health?.status === "healthy";
    await seen("well", "its health", healthy);
    await well.migrate("vm-b");
    const last = (await entryOf("well")).health?.results.at(-1)?.started_at ?? "";
    const { health } = await seen(
      "well",
      "a check in vm-b",
      (entry) => (entry.health?.results.at(-1)?.started_at ?? "") > last,
    );
    expect(health).toMatchObject({ status: "healthy", failing_streak: 0 });
    expect(health?.results.map(({ exit_code, output }) => [exit_code, output])).toEqual(
      health?.results.map(() => [0, "well"]),
    );
    await exec("well", "touch", "/sick");
    const sick = await seen("well", "its illness", (entry) => entry.health?.status === "unhealthy");
    expect(sick.health?.failing_streak).toBeGreaterThanOrEqual(2);
    expect(sick.health?.results.at(-1)).toMatchObject({ exit_code: 1, output: "unwell" });
    await well.migrate("vm-a");
    const moved = await entryOf("well");
    expect(moved.health?.status).toBe("unhealthy");
    expect(moved.health?.failing_streak).toBeGreaterThanOrEqual(sick.health?.failing_streak ?? 0);
    await exec("well", "rm", "/sick");
    await seen("well", "its recovery", healthy);
    expect(await lab.mwarp.ok(["ps", "--vm", "vm-a"])).toContain("running (healthy)");
    await well.remove();
  });

  it("that take too long are ended with all that they have started, and have failed", async () => {
    const { lab } = host;
    const check = "sleep 4321 & echo waiting; sleep 4321";
    const flags = ["--health-cmd", check, "--health-interval", "3s", "--health-timeout", "2s"];
    const slow = await Workload.start(
      lab,
      "vm-a",
      "slow",
      ["sh", "-c", TOLD],
      [...flags, ...["--health-retries", "1"]],
    );
    const { health } = await seen("slow", "its verdict", (entry) => entry.health?.status === "unhealthy");
    expect(health?.results[0]).toMatchObject({ exit_code: null });
    expect(health?.results[0]?.output).toContain("waiting");
    // Those of the one that may be under way at most.
    await until(
      "their processes to be gone",
      async () => {
        const found = await lab.guest("vm-a", "sh", "-c", "pgrep -fx 'sleep 4321' || true");
        return found === "" ? true : undefined;
      },
      POLL,
    );
    await slow.remove();
  });
});

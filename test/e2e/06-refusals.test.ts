/** Every refusal has a code, a cause and a remedy, and changes nothing. */
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeBundle } from "../support/bundle.js";
import { PsSchema } from "../support/documents.js";
import { keepLogsOfFailures, TestLab, useLab } from "../support/lab.js";
import { long } from "../support/long.js";
import { Workload } from "../support/workload.js";

/** How long an agent is gone, seconds: longer than a command waits for it, shorter than a test for its return. */
const GONE_S = 50;

/** What a refusal may not change: the containers, and what lies in the destination's directories. */
async function world(lab: TestLab): Promise<unknown> {
  const { containers } = await lab.mwarp.json(PsSchema, ["ps"]);
  const list = containers.map(({ vm, name, status, pid, migration }) => [vm, name, status, pid, migration]);
  const files = await lab
    .guest("vm-b", "sh", "-c", "ip netns list; ls /run/runc /run/mwarp* 2>/dev/null; ls /sys/fs/cgroup")
    .catch(String);
  return { list, files };
}

/** The agent looks for its tools once, when it starts; the guest's init starts it again. */
async function restartAgent(lab: TestLab, vm: string): Promise<void> {
  await lab.guest(vm, "sh", "-c", "(sleep 0.2; pkill -f agent.mjs) >/dev/null 2>&1 </dev/null &");
  await sleep(1500);
  await lab.ready();
}

async function expectRefusal(
  lab: TestLab,
  args: readonly string[],
  exit: number,
  code: string,
  cause: RegExp,
): Promise<void> {
  const before = await world(lab);
  const refusal = await lab.mwarp.refusal(["migrate", ...args]);
  expect([refusal.exit, refusal.error.code]).toEqual([exit, code]);
  expect([refusal.error.message, ...refusal.error.details].join("\n")).toMatch(cause);
  expect(refusal.error.hint).not.toBe("");
  expect(await world(lab)).toEqual(before);
}

describe("a migration is refused", () => {
  const host = useLab({ memory: "768M" });
  let web: Workload;
  beforeAll(async () => {
    web = await Workload.run(host.lab, "vm-a", "web", ["pattern", "160", "thp"]);
  });

  it("when no container has that name", () =>
    expectRefusal(host.lab, ["nobody", "--to", "vm-b"], 6, "MWARP_E_CONTAINER_UNKNOWN", /nobody/));

  it("when no VM has that name", () =>
    expectRefusal(host.lab, ["web", "--to", "vm-x"], 6, "MWARP_E_VM_UNKNOWN", /vm-x/));

  it("to the VM where it is", () =>
    expectRefusal(host.lab, ["web", "--to", "vm-a"], 5, "MWARP_E_SAME_VM", /vm-a/));

  it("when the destination has not enough free memory", async () => {
    const hog = await Workload.run(host.lab, "vm-b", "hog", ["pattern", "400", "thp"]);
    await expectRefusal(host.lab, ["web", "--to", "vm-b"], 5, "MWARP_E_NO_MEMORY", /MiB|memory/i);
    await hog.verify();
    await hog.remove();
  });

  it("when it holds what cannot be moved, each thing by its name", async () => {
    const { lab } = host;
    // Namespaces first: their holder is a child, which would hold all that was there before it.
    const names: Readonly<Record<string, RegExp>> = {
      namespaces:
        /pid 1: a PID namespace of its own.*pid \d+: a user namespace of its own.*: an IPC namespace of its own.*: a UTS namespace/s,
      aio: /pid 1 memory at [0-9a-f]+: asynchronous I\/O/,
      io_uring: /pid 1 fd \d+: io_uring/,
      userfaultfd: /pid 1 fd \d+: userfaultfd/,
      memfd_secret: /pid 1 fd \d+: memfd_secret/,
      fanotify: /pid 1 fd \d+: fanotify/,
      mptcp: /pid 1 fd \d+: MPTCP socket/,
      alg: /pid 1 fd \d+: ALG socket/,
      vsock: /pid 1 fd \d+: AF_VSOCK socket/,
      personality: /pid 1: personality\(2\) 0x40000/,
      inheritable: /pid 1: inheritable capabilities outside its bounding set \(20\)/,
    };
    // Its filter lets io_uring be, which is forbidden to a container without a bundle.
    const bundle = writeBundle(path.join(lab.stateDir, "odd"), lab.rootfs, ["odd", ...Object.keys(names)]);
    const odd = await Workload.runBundle(lab, "vm-a", "odd", bundle, "odd");
    const has = (await odd.lines())
      .join()
      .match(/has=(\S+),/)![1]
      .split(",");
    expect(has).toEqual(
      expect.arrayContaining([
        "aio",
        "io_uring",
        "userfaultfd",
        "mptcp",
        "namespaces",
        "personality",
        "inheritable",
      ]),
    );
    await expectRefusal(lab, ["odd", "--to", "vm-b"], 5, "MWARP_E_UNSUPPORTED", /cannot be moved/);
    const dry = await lab.mwarp.run(["migrate", "odd", "--to", "vm-b", "--dry-run"]);
    expect(dry.exit).toBe(5);
    for (const kind of has) expect(dry.stdout + dry.stderr).toMatch(names[kind]);
    // One reason hides no other.
    const nowhere = await lab.mwarp.refusal(["migrate", "odd", "--to", "vm-x"]);
    expect(nowhere.error.code).toBe("MWARP_E_VM_UNKNOWN");
    for (const kind of has) expect(nowhere.error.details.join("\n")).toMatch(names[kind]);
    await odd.verify();
    await odd.remove();
  });

  it("when it has made control groups of its own", async () => {
    const { lab } = host;
    const group = "/sys/fs/cgroup/mwarp/web/inner";
    await lab.guest("vm-a", "mkdir", group);
    await expectRefusal(lab, ["web", "--to", "vm-b"], 5, "MWARP_E_UNSUPPORTED", /1 control group of its own/);
    await lab.guest("vm-a", "rmdir", group);
  });

  it("when copies of shared pages would take it over its memory limit", async () => {
    const cow = await Workload.run(host.lab, "vm-a", "cow", ["cow", "48", "3"], ["--memory-limit", "128M"]);
    await expectRefusal(host.lab, ["cow", "--to", "vm-b"], 5, "MWARP_E_NO_MEMORY", /may use 128 MiB/);
    await cow.verify();
    await cow.remove();
  });

  it("when it lives on swap and the destination has none; with swap there it moves", async () => {
    const { lab } = host;
    const swap =
      "modprobe zram; echo 256M > /sys/block/zram0/disksize; mkswap /dev/zram0 >/dev/null; swapon /dev/zram0";
    await lab.guest("vm-a", "sh", "-ec", swap);
    const big = await Workload.run(lab, "vm-a", "big", ["pattern", "72", "thp"], ["--memory-limit", "48M"]);
    await expectRefusal(lab, ["big", "--to", "vm-b"], 5, "MWARP_E_NO_MEMORY", /may use 48 MiB .* in swap/);
    await lab.guest("vm-b", "sh", "-ec", swap);
    const { time_ms: time } = await big.migrate("vm-b");
    console.info(`preflight of a container with one process: ${Math.round(time.phases.preflight)} ms`);
    await big.verify();
    if (long) {
      await big.migrate("vm-a");
      await big.verify();
    }
    await big.remove();
  });

  it("when the destination's CRIU is too old", async () => {
    const fake = '#!/bin/sh\\necho "Version: 3.17.1"\\n';
    await host.lab.guest(
      "vm-b",
      "sh",
      "-c",
      `criu=$(command -v criu); mv $criu $criu.kept; printf '${fake}' > $criu; chmod +x $criu`,
    );
    await restartAgent(host.lab, "vm-b");
    try {
      await expectRefusal(host.lab, ["web", "--to", "vm-b"], 5, "MWARP_E_CRIU_TOO_OLD", /3\.17/);
    } finally {
      await host.lab.guest("vm-b", "sh", "-c", "criu=$(command -v criu); mv $criu.kept $criu");
      await restartAgent(host.lab, "vm-b");
    }
  });

  it("or allowed after a look at all that it has, however much that is", async () => {
    const { lab } = host;
    const many = await Workload.run(lab, "vm-a", "many", ["many", "8", "600"]);
    const times: string[] = [];
    for (const name of ["many", "web"]) {
      const since = performance.now();
      const plan = await lab.mwarp.run(["migrate", name, "--to", "vm-b", "--dry-run", "--json"]);
      times.push(`${name} ${Math.round(performance.now() - since)} ms`);
      expect([plan.exit, JSON.parse(plan.stdout).reasons]).toEqual([0, []]);
    }
    console.info(`dry run, with the command's own start: ${times.join(", ")}`);
    await many.verify();
    await many.remove();
  });

  it("by a dry run with every reason at once, and not by one that may go", async () => {
    const may = await host.lab.mwarp.run(["migrate", "web", "--to", "vm-b", "--dry-run", "--json"]);
    expect(may.exit).toBe(0);
    const mayNot = await host.lab.mwarp.run(["migrate", "web", "--to", "vm-a", "--dry-run", "--json"]);
    expect(mayNot.exit).toBe(5);
    expect(await web.vm()).toBe("vm-a");
  });

  it("when the destination's agent is gone", async () => {
    await Workload.run(host.lab, "vm-b", "twin", ["pattern", "8", "small"]);
    const script = `agent=$(pgrep -o node); sleep 0.5; kill -STOP $agent; sleep ${GONE_S}; kill -CONT $agent`;
    await host.lab.guest("vm-b", "sh", "-c", `(${script}) >/dev/null 2>&1 </dev/null &`);
    await sleep(1500);
    const refusal = await host.lab.mwarp.refusal(["migrate", "web", "--to", "vm-b"]);
    expect([refusal.exit, refusal.error.code]).toEqual([3, "MWARP_E_AGENT_UNREACHABLE"]);
    expect(refusal.error.message).toMatch(/vm-b/);
    expect(await web.vm()).toBe("vm-a");
  });

  it("when the destination has a container of that name, of which nobody could know", async () => {
    const { lab } = host;
    // vm-b is still mute: the name looks free.
    await lab.mwarp.ok([
      "run",
      "--vm",
      "vm-a",
      "--name",
      "twin",
      "--rootfs",
      lab.rootfs,
      "--",
      "sleep",
      "1000",
    ]);
    await lab.ready();
    await expectRefusal(lab, ["twin", "--to", "vm-b"], 5, "MWARP_E_NAME_TAKEN", /vm-b already has .*twin/);
  });

  it("and the container has not noticed any of it", () => web.verify());
});

describe("in a lab of unsuitable VMs, a migration", () => {
  let lab: TestLab;
  keepLogsOfFailures(() => lab);
  beforeAll(async () => {
    lab = new TestLab();
    await lab.up({
      vms: 3,
      memory: "512M",
      overrides: { "vm-b": { memoryBacking: "private" }, "vm-c": { preload: false } },
    });
  }, 240_000);
  afterAll(() => lab.down());

  it("is refused when the VM's memory is no shared memfd", async () => {
    await Workload.run(lab, "vm-a", "web", ["pattern", "32", "thp"]);
    await expectRefusal(lab, ["web", "--to", "vm-b"], 5, "MWARP_E_MEMORY_NOT_SHARED", /vm-b/);
  });

  it("copies, and does not remap, where QEMU runs without mWarp's library", async () => {
    const web = new Workload(lab, "web");
    const report = await web.migrate("vm-c");
    expect(report.backend).toBe("copy");
    await web.verify();
  });

  it("is refused by name when it asks for remapping there", () =>
    expectRefusal(lab, ["web", "--to", "vm-a", "--backend", "remap"], 5, "MWARP_E_UNSUPPORTED", /librar/i));
});

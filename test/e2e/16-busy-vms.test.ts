/**
 * VMs that do more than hold containers: disks that are written and flushed all the time, or slow, or hold swap; a network that
 * has frames of a container under way, or is flooded; a reset or a reboot after their memory has been exchanged.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { MigrationTableSchema } from "../../src/protocol/api.js";
import { MigrationReportSchema } from "../../src/protocol/migration.js";
import { PAGE_BYTES } from "../../src/units.js";
import { QmpClient } from "../../src/vm/qmp.js";
import { Crashes } from "../support/crash.js";
import { PsSchema } from "../support/documents.js";
import { startFlood } from "../support/flood.js";
import { expectOnePagePerPage, labVms } from "../support/host-memory.js";
import { keepLogsOfFailures, TestLab } from "../support/lab.js";
import { startLines } from "../support/lines.js";
import { long } from "../support/long.js";
import { projectRoot } from "../support/mwarp.js";
import { Workload } from "../support/workload.js";

const MIB = 1024 * 1024;
/** Requests a second of the slow disk: few enough that several are always under way. */
const SLOW_IOPS = 60;
/** How long a request of the late disk takes, ms. */
const LATE_MS = 1_000;
/** Requests that are under way there at any time. */
const QUEUE_DEPTH = 32;
/** Where an agent keeps all it has: the containers' writable layers, too. */
const AGENT_FILES = "/run/mwarp-guest";
const vms = ["vm-a", "vm-b"] as const;
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");

describe("in VMs that are busy", () => {
  let files: string;
  let lab: TestLab;
  keepLogsOfFailures(() => lab);
  beforeAll(async () => {
    files = mkdtempSync(path.join(tmpdir(), "mwt-disk-"));
    const [disk, slow, swap] = ["disk", "slow", "swap"].map((name) => {
      const file = path.join(files, name);
      writeFileSync(file, "");
      truncateSync(file, 128 * MIB);
      return file;
    });
    for (const file of [disk, slow]) execFileSync("mke2fs", ["-q", "-t", "ext4", file]);
    lab = new TestLab();
    const qmp = path.join(lab.runDir, "vms", "vm-b", "reset.sock");
    const extra = [
      ...["-blockdev", `driver=file,node-name=data,filename=${disk},cache.direct=off`],
      ...["-device", "virtio-blk-pci,drive=data"],
      ...["-object", `throttle-group,id=slow,x-iops-total=${SLOW_IOPS}`],
      ...["-blockdev", `driver=file,node-name=slow-file,filename=${slow},cache.direct=off`],
      ...["-blockdev", "driver=throttle,node-name=slow-data,throttle-group=slow,file=slow-file"],
      ...["-device", "virtio-blk-pci,drive=slow-data"],
      ...["-blockdev", `driver=file,node-name=swap,filename=${swap}`],
      ...["-device", "virtio-blk-pci,drive=swap"],
      // Each request takes that long, also when the VM is stopped: QEMU lifts the limits of a throttled disk for that.
      ...[
        "-blockdev",
        `driver=null-co,node-name=late,size=${64 * MIB},read-zeroes=on,latency-ns=${LATE_MS * 1e6}`,
      ],
      ...["-device", "virtio-blk-pci,drive=late"],
      ...["-action", "reboot=reset"],
      ...["-qmp", `unix:${qmp},server=on,wait=off`],
    ];
    await lab.up({ memory: "640M", hugepages: "off", overrides: { "vm-b": { extra } } });
  }, 300_000);
  afterAll(async () => {
    await lab.down();
    rmSync(files, { recursive: true, force: true });
  }, 120_000);

  it("memory that the kernel is sending from is copied, and every byte of it arrives", async () => {
    const bytes = 16 * MIB;
    const sender = await Workload.run(lab, "vm-a", "sender", ["zerocopy", "9100", String(bytes / MIB)]);
    const { namespace } = await lab.status();
    const { containers } = await lab.mwarp.json(PsSchema, ["ps"]);
    const program = path.join(projectRoot, "test/support/drain-client.mjs");
    const argv = [process.execPath, program, containers[0].ipv4, "9100", String(bytes)] as const;
    await using client = await startLines(["nsenter", `--net=/run/netns/${namespace}`, ...argv]);
    await client.waitFor(/connected/);
    await expect
      .poll(async () => (await sender.lines()).filter((line) => line.includes("sent bytes=")).length, {
        timeout: 20_000,
      })
      .toBeGreaterThan(0);
    const { id } = await sender.migrate("vm-b", ["--backend", "remap"]);
    const { runs } = await lab.mwarp.json(MigrationTableSchema, ["inspect", id, "--table"]);
    const held = runs.filter((run) => run.source_kind === "held").reduce((sum, run) => sum + run.pages, 0);
    expect(held, "pages that the kernel refers to").toBeGreaterThan(16);
    await sender.verify();
    client.send("read");
    const [verdict] = await client.waitFor(/\{"bytes".*|\{"error".*/, { timeoutMs: 120_000 });
    expect(JSON.parse(verdict)).toEqual({ bytes, wrong: null });
    await sender.verify();
    await sender.remove();
  });

  it("a stun beside a disk that is written and flushed and a network that is flooded ends in time", async () => {
    const script = `
modprobe ext4 || true; mkdir -p /mnt/disk; mount /dev/vdb /mnt/disk
(while [ ! -e /tmp/disk-ends ]; do dd if=/dev/urandom of=/mnt/disk/file bs=64k count=64 conv=fsync; done; sync; echo ended > /tmp/disk-ended) >/dev/null 2>&1 </dev/null &`;
    await lab.guest("vm-b", "sh", "-ec", script);
    const written = async (): Promise<number> =>
      Number((await lab.guest("vm-b", "sh", "-c", "cut -c1- /sys/block/vdb/stat | awk '{print $7}'")).trim());
    const before = await written();
    await using flood = await startFlood(lab, vms);
    const pattern = await Workload.run(lab, "vm-a", "pattern", ["pattern", "32", "thp"]);
    const stuns: number[] = [];
    for (let i = 0; i < 2; i++) {
      const report = await pattern.migrate(other(await pattern.vm()), ["--max-stun", "5s"]);
      stuns.push(Math.max(report.stun_ms.source, report.stun_ms.destination));
      await pattern.verify();
    }
    console.info(`stun beside a disk and a flood: ${stuns.map((ms) => ms.toFixed(0)).join(", ")} ms`);
    expect(await written()).toBeGreaterThan(before);
    const { sent, echoed } = await flood.end();
    console.info(`flood: ${sent} datagrams sent, ${echoed} came back`);
    expect(echoed).toBeGreaterThan(100);
    await lab.guest(
      "vm-b",
      "sh",
      "-c",
      "touch /tmp/disk-ends; until [ -e /tmp/disk-ended ]; do sleep 0.1; done; umount /mnt/disk",
    );
    // What the guest believes to be on its disk is on it.
    execFileSync("e2fsck", ["-fn", path.join(files, "disk")], { stdio: "pipe" });
    await pattern.remove();
  });

  it("--max-stun ends a stun for which a disk keeps the VM too long, and nothing has happened", async () => {
    const reader =
      "while [ ! -e /tmp/late-ends ]; do dd if=/dev/vde of=/dev/null bs=4k count=64 iflag=direct; done";
    // One after the other: when one request is nearly done, others have just begun.
    const pause = (LATE_MS / QUEUE_DEPTH / 1000).toFixed(3);
    const script = `for i in $(seq ${QUEUE_DEPTH}); do (${reader}) >/dev/null 2>&1 </dev/null & sleep ${pause}; done`;
    await lab.guest("vm-b", "sh", "-c", script);
    const inFlight = async (): Promise<number> =>
      Number((await lab.guest("vm-b", "awk", "{print $1}", "/sys/block/vde/inflight")).trim());
    await expect.poll(inFlight, { timeout: 30_000 }).toBeGreaterThan(QUEUE_DEPTH / 2);
    const patient = await Workload.run(lab, "vm-a", "patient", ["pattern", "32", "thp"]);
    const args = ["migrate", "patient", "--to", "vm-b", "--max-stun", "50ms", "--json"];
    const report = MigrationReportSchema.parse(JSON.parse((await lab.mwarp.run(args)).stdout));
    expect(report).toMatchObject({ outcome: "aborted", error: { code: "MWARP_E_TIMEOUT", phase: "warp" } });
    for (const { name, qmpSocket } of labVms(lab)) {
      using qmp = await QmpClient.open(qmpSocket);
      expect(await qmp.execute("query-status"), name).toMatchObject({ status: "running" });
    }
    expect(await patient.vm()).toBe("vm-a");
    await patient.verify();
    expect(await inFlight(), "requests under way afterwards").toBeGreaterThan(0);
    const { stun_ms: stun } = await patient.migrate("vm-b");
    console.info(
      `stun beside requests of ${LATE_MS} ms: ${Math.max(stun.source, stun.destination).toFixed(0)} ms`,
    );
    await patient.verify();
    await lab.guest("vm-b", "touch", "/tmp/late-ends");
    await patient.remove();
  });

  it("pages in the swap cache are copied, those on the swap disk go as bytes, and all of them are right", async () => {
    await lab.guest("vm-b", "sh", "-ec", "mkswap /dev/vdd >/dev/null; swapon /dev/vdd");
    const unit = 512;
    const classes = await Workload.run(lab, "vm-b", "classes", ["classes", String(unit)]);
    const ready = (await classes.lines()).find((line) => line.includes(" ready "));
    const first = Number(/swapped=(0x[0-9a-f]+)/.exec(ready ?? "")?.[1]) / PAGE_BYTES;
    const cached = await lab.guest("vm-b", "awk", "/^SwapCached:/ {print $2}", "/proc/meminfo");
    expect(Number(cached)).toBeGreaterThan(0);
    const { id, memory, stun_ms: stun } = await classes.migrate("vm-a", ["--backend", "remap"]);
    await classes.verify();
    // What was missing was found before anybody stood still.
    expect(stun.times).toBe(1);
    const { runs } = await lab.mwarp.json(MigrationTableSchema, ["inspect", id, "--table"]);
    expect(runs.reduce((sum, run) => sum + run.pages, 0)).toBe(memory.pages);
    // Every second one has been read since it was paged out, and is clean.
    const counts: Record<string, number> = {};
    for (const { task, page, pages, source_kind: kind, treatment } of runs)
      for (let at = Math.max(page, first); task === 1 && at < Math.min(page + pages, first + unit); at++) {
        const key = `${(at - first) % 2 === 0 ? "read" : "left"} ${kind} ${treatment}`;
        counts[key] = (counts[key] ?? 0) + 1;
      }
    console.info(`pages of memory that was paged out: ${JSON.stringify(counts)}`);
    expect(counts["read held copy"]).toBeGreaterThan(0.9 * (unit / 2));
    expect(counts["left absent bytes"]).toBeGreaterThan(0.9 * (unit / 2));
    expect(counts["read exclusive exchange"] ?? 0).toBeLessThan(0.1 * unit);
    await classes.remove();
    await lab.guest("vm-b", "swapoff", "/dev/vdd");
  });

  it("a disk that reads from and writes into the container's pages all the time gets and leaves the right bytes", async () => {
    // The writable layer on a file system on a disk: tmpfs has no direct I/O to speak of.
    await lab.guest("vm-b", "sh", "-ec", `modprobe ext4 || true; mount /dev/vdc ${AGENT_FILES}`);
    const crashes = new Crashes(lab);
    await crashes.killIn("vm-b", "agent", "one at least");
    await lab.ready();
    const inFlight = async (): Promise<number> =>
      Number((await lab.guest("vm-b", "awk", "{print $1 + $2}", "/sys/block/vdc/inflight")).trim());
    const direct = await Workload.run(lab, "vm-b", "direct", ["direct", "/root", "4"]);
    await expect.poll(inFlight, { timeout: 20_000 }).toBeGreaterThan(0);
    for (let i = 0; i < (long ? 2 : 1); i++) {
      await direct.verify();
      await direct.migrate("vm-a", ["--backend", "remap"]);
      await direct.verify();
      await direct.migrate("vm-b", ["--backend", "remap"]);
    }
    await direct.verify();
    await expect.poll(inFlight, { timeout: 20_000 }).toBeGreaterThan(0);
    await direct.remove();
    await lab.guest("vm-b", "umount", "-l", AGENT_FILES);
    await crashes.killIn("vm-b", "agent", "one at least");
    await lab.ready();
    await lab.guest("vm-b", "sync");
    execFileSync("e2fsck", ["-fn", path.join(files, "slow")], { stdio: "pipe" });
  });

  it("more extents than mappings to spare are not all remapped: the rest is copied", async () => {
    const steady = await Workload.run(lab, "vm-b", "steady", ["pattern", "144", "scattered"]);
    const { memory } = await steady.migrate("vm-a", ["--backend", "remap"]);
    await steady.verify();
    expect(memory.remapped_pages).toBeGreaterThan(10_000);
    expect(memory.copied_pages).toBeGreaterThan(1_000);
    await expectOnePagePerPage(lab);
  });

  const restarts: [string, () => Promise<void>][] = [
    ["rebooted from inside", rebootFromInside],
    ["reset by its VMM", resetByVmm],
  ];
  it.each(long ? restarts : restarts.slice(0, 1))(
    "a VM whose memory has been exchanged can be %s, and works as before",
    async (_, restart) => {
      const steady = new Workload(lab, "steady", "pattern");
      const bootId = (): Promise<string> => lab.guest("vm-b", "cat", "/proc/sys/kernel/random/boot_id");
      const before = await bootId();
      await restart();
      await expect
        .poll(() => bootId().catch(() => before), { timeout: 120_000, interval: 1000 })
        .not.toBe(before);
      await lab.ready();
      // Frames that went to vm-a by the exchange are not the restarted VM's to write to.
      await steady.verify();
      const near = await Workload.run(lab, "vm-b", "near", ["neighbour", "96", "scattered"]);
      for (const to of ["vm-b", "vm-a"]) await steady.migrate(to, ["--backend", "remap"]);
      await steady.verify();
      await near.verify();
      await expectOnePagePerPage(lab);
    },
  );

  async function resetByVmm(): Promise<void> {
    using qmp = await QmpClient.open(path.join(lab.runDir, "vms", "vm-b", "reset.sock"));
    await qmp.execute("system_reset");
  }

  /** At once, as a guest's watchdog or administrator would. The answer to the command must get out first. */
  async function rebootFromInside(): Promise<void> {
    const script = "(sleep 0.5; busybox reboot -f) >/dev/null 2>&1 </dev/null &";
    await lab.guest("vm-b", "sh", "-c", script);
  }
});

/**
 * VMs that do more than hold containers: a disk that is written and flushed all the time, a network that has frames of a
 * container under way, a reset after their memory has been exchanged.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { MigrationTableSchema } from "../../src/protocol/api.js";
import { QmpClient } from "../../src/vm/qmp.js";
import { Crashes } from "../support/crash.js";
import { PsSchema } from "../support/documents.js";
import { expectOnePagePerPage } from "../support/host-memory.js";
import { keepLogsOfFailures, TestLab } from "../support/lab.js";
import { startLines } from "../support/lines.js";
import { projectRoot } from "../support/mwarp.js";
import { Workload } from "../support/workload.js";

const MIB = 1024 * 1024;
/** Requests a second of the slow disk: few enough that several are always under way. */
const SLOW_IOPS = 60;
/** Where an agent keeps all it has: the containers' writable layers, too. */
const AGENT_FILES = "/run/mwarp-guest";
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");

describe("in VMs that are busy", () => {
  let files: string;
  let lab: TestLab;
  keepLogsOfFailures(() => lab);
  beforeAll(async () => {
    files = mkdtempSync(path.join(tmpdir(), "mwt-disk-"));
    const [disk, slow] = ["disk", "slow"].map((name) => {
      const file = path.join(files, name);
      writeFileSync(file, "");
      truncateSync(file, 128 * MIB);
      execFileSync("mke2fs", ["-q", "-t", "ext4", file]);
      return file;
    });
    lab = new TestLab();
    const qmp = path.join(lab.runDir, "vms", "vm-b", "reset.sock");
    const extra = [
      ...["-blockdev", `driver=file,node-name=data,filename=${disk},cache.direct=off`],
      ...["-device", "virtio-blk-pci,drive=data"],
      ...["-object", `throttle-group,id=slow,x-iops-total=${SLOW_IOPS}`],
      ...["-blockdev", `driver=file,node-name=slow-file,filename=${slow},cache.direct=off`],
      ...["-blockdev", "driver=throttle,node-name=slow-data,throttle-group=slow,file=slow-file"],
      ...["-device", "virtio-blk-pci,drive=slow-data"],
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

  it("the stun waits for a disk that is written and flushed all the time, and --max-stun bounds it", async () => {
    const script = `
modprobe ext4 || true; mkdir -p /mnt/disk; mount /dev/vdb /mnt/disk
(while [ ! -e /tmp/disk-ends ]; do dd if=/dev/urandom of=/mnt/disk/file bs=64k count=64 conv=fsync; done; sync; echo ended > /tmp/disk-ended) >/dev/null 2>&1 </dev/null &`;
    await lab.guest("vm-b", "sh", "-ec", script);
    const written = async (): Promise<number> =>
      Number((await lab.guest("vm-b", "sh", "-c", "cut -c1- /sys/block/vdb/stat | awk '{print $7}'")).trim());
    const before = await written();
    const pattern = await Workload.run(lab, "vm-a", "pattern", ["pattern", "32", "thp"]);
    const stuns: number[] = [];
    for (let i = 0; i < 4; i++) {
      const report = await pattern.migrate(other(await pattern.vm()), ["--max-stun", "10s"]);
      stuns.push(Math.max(report.stun_ms.source, report.stun_ms.destination));
      await pattern.verify();
    }
    console.info(`stun beside a disk under fsync: ${stuns.map((ms) => ms.toFixed(0)).join(", ")} ms`);
    expect(Math.max(...stuns)).toBeLessThan(20_000);
    expect(await written()).toBeGreaterThan(before);
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
    for (let i = 0; i < 2; i++) {
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

  it("a VM whose memory has been exchanged can be reset, and works as before", async () => {
    const steady = new Workload(lab, "steady", "pattern");
    const bootId = (): Promise<string> => lab.guest("vm-b", "cat", "/proc/sys/kernel/random/boot_id");
    const before = await bootId();
    {
      using qmp = await QmpClient.open(path.join(lab.runDir, "vms", "vm-b", "reset.sock"));
      await qmp.execute("system_reset");
    }
    await expect
      .poll(() => bootId().catch(() => before), { timeout: 120_000, interval: 1000 })
      .not.toBe(before);
    await lab.ready();
    // Frames that went to vm-a by the exchange are not the reset VM's to write to.
    await steady.verify();
    const near = await Workload.run(lab, "vm-b", "near", ["neighbour", "96", "scattered"]);
    for (const to of ["vm-b", "vm-a"]) await steady.migrate(to, ["--backend", "remap"]);
    await steady.verify();
    await near.verify();
    await expectOnePagePerPage(lab);
  });
});

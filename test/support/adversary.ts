/**
 * The adversary (DESIGN.md, section 8): everything a guest kernel and a VMM do to move, merge, swap and drop pages, all at
 * once and all the time, in a lab of VMs that have a balloon with free page reporting.
 */
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { isMwarpError } from "../../src/errors.js";
import { QmpClient } from "../../src/vm/qmp.js";
import { allocatedBytes } from "./host-memory.js";
import type { LabOptions, TestLab } from "./lab.js";
import { long } from "./long.js";
import { until } from "./wait.js";

const MIB = 1024 * 1024;
const vms = ["vm-a", "vm-b"] as const;
/** What the adversary leaves available in a guest, KiB: enough for a container to come. */
const LEFT_KIB = 240 * 1024;
/** Written and freed in a guest to see that it tells the host of free pages: much more than a balloon takes at a time. */
const REPORTED_MIB = 160;

/** How little it rests: khugepaged, KSM and the balloon, ms between two rounds; the loops, seconds. */
interface Haste {
  readonly collapseMs: number;
  readonly mergeMs: number;
  readonly balloonMs: number;
  readonly rest: number;
  /** Left available while a container comes or goes, KiB. */
  readonly leftInMoveKib: number;
}
/**
 * Without any rest at all a move takes half a minute where two emulated guests share two processors. In the long form memory
 * is taken down to little more than the low watermark as soon as a move has passed its preflight: everything that can be
 * is then reclaimed, swapped out and migrated.
 */
const haste: Haste =
  process.env.MWARP_TEST_LONG === "1"
    ? { collapseMs: 0, mergeMs: 20, balloonMs: 400, rest: 0.1, leftInMoveKib: 40 * 1024 }
    : { collapseMs: 100, mergeMs: 100, balloonMs: 4_000, rest: 1.5, leftInMoveKib: LEFT_KIB };

/** For root in a guest. Loops run niced: they shall meddle, not keep the machine from working. */
const script = (haste: Haste): string => `
set -e
modprobe zram; echo 256M > /sys/block/zram0/disksize; mkswap /dev/zram0 >/dev/null; swapon /dev/zram0
cd /sys/kernel/mm/ksm; echo 1000 > pages_to_scan; echo ${haste.mergeMs} > sleep_millisecs; echo 1 > use_zero_pages; echo 1 > run
cd /sys/kernel/mm/transparent_hugepage/khugepaged
echo ${haste.collapseMs} > scan_sleep_millisecs; echo 0 > alloc_sleep_millisecs; echo 512 > pages_to_scan
cd /
loop() { nice -n 19 sh -c "while [ ! -e /tmp/adversary-ends ]; do $1; sleep ${haste.rest}; done" >/dev/null 2>&1 </dev/null & }
loop 'echo 1 > /proc/sys/vm/compact_memory'
loop 'find /usr /etc /proc/sys -xdev; echo 2 > /proc/sys/vm/drop_caches'
loop 'cat /usr/bin/* | head -c 50000000; echo 1 > /proc/sys/vm/drop_caches'
mkdir -p /tmp/hog
loop 'left=${LEFT_KIB}; count=8; if pgrep -x criu; then left=${haste.leftInMoveKib}; count=32; fi; free=$(sed -n "s/MemAvailable: *\\([0-9]*\\).*/\\1/p" /proc/meminfo); if [ $free -gt $left ]; then dd if=/dev/urandom of=/tmp/hog/$(date +%N) bs=1M count=$count; else rm -f $(ls -d /tmp/hog/* | head -4); fi'
`;

/** Options of a lab in which the adversary can do all it wants. */
export function adversaryLab(runDir: () => string, memoryMib: number): () => LabOptions {
  const extra = (vm: string): string[] => [
    "-device",
    "virtio-balloon-pci,id=balloon0,free-page-reporting=on,romfile=",
    "-qmp",
    `unix:${balloonSocket(runDir(), vm)},server=on,wait=off`,
  ];
  return () => ({
    memory: `${memoryMib}M`,
    hugepages: "off",
    overrides: { "vm-a": { extra: extra("vm-a") }, "vm-b": { extra: extra("vm-b") } },
  });
}

/** Between two looks at the memory files, ms. */
const WATCH_MS = 1_000;

const balloonSocket = (runDir: string, vm: string): string => path.join(runDir, "vms", vm, "balloon.sock");

export interface Adversary extends AsyncDisposable {
  /** Fails unless both guests were really kept busy since the start. */
  expectBusy(): Promise<void>;
}

/** Begins in both VMs; ends when disposed, or with the VMs. */
export async function startAdversary(lab: TestLab, memoryMib: number): Promise<Adversary> {
  const ending = new AbortController();
  for (const vm of vms) {
    await lab.guest(vm, "modprobe", "virtio_balloon");
    await expectReporting(lab, vm);
    await lab.guest(vm, "sh", "-c", script(haste));
  }
  const before = await Promise.all(vms.map((vm) => deeds(lab, vm)));
  const discards = watchDiscards(lab, ending.signal);
  const balloons = Promise.allSettled(
    vms.map((vm) => squeeze(balloonSocket(lab.runDir, vm), memoryMib, ending.signal)),
  );
  return {
    async expectBusy() {
      const together = new Map<string, number>();
      for (const [index, vm] of vms.entries()) {
        const now = await deeds(lab, vm);
        const done = [...now].map(([deed, count]) => [deed, count - before[index].get(deed)!] as const);
        console.info(`the adversary in ${vm}: ${done.map((one) => one.join(" ")).join(", ")}`);
        for (const [deed, count] of done) {
          together.set(deed, (together.get(deed) ?? 0) + count);
          if (!IN_ANY_GUEST.has(deed) && (long || !IN_THE_LONG_FORM.has(deed)))
            expect(count, `${deed} in ${vm}`).toBeGreaterThan(0);
        }
      }
      for (const deed of IN_ANY_GUEST) expect(together.get(deed), `${deed} in either VM`).toBeGreaterThan(0);
      console.info(`given back to the host and taken again: ${Math.round(discards.bytes / MIB)} MiB`);
      expect(discards.bytes, "bytes that the guests gave back").toBeGreaterThan(REPORTED_MIB * MIB);
    },
    // The VMs are ended next, and with them all that goes on in them.
    [Symbol.asyncDispose]: async () => {
      ending.abort();
      await Promise.all([balloons, discards.ended]);
    },
  };
}

/** Names in /proc/vmstat of what the adversary is there for. */
const VMSTAT = [
  "compact_migrate_scanned",
  "pgmigrate_success",
  "drop_pagecache",
  "balloon_inflate",
  "slabs_scanned",
  "pswpout",
  "thp_collapse_alloc",
] as const;

/**
 * What one guest may have been spared in a few moves. Huge pages are collapsed where the container with such memory is; memory is
 * short enough to be swapped out in the long form only, and otherwise now and then.
 */
const IN_ANY_GUEST: ReadonlySet<string> = new Set(["thp_collapse_alloc"]);
const IN_THE_LONG_FORM: ReadonlySet<string> = new Set(["pswpout"]);

/** What a guest's kernel has done of it; KSM counts its rounds elsewhere. */
async function deeds(lab: TestLab, vm: string): Promise<Map<string, number>> {
  const files = ["/proc/vmstat", "/sys/kernel/mm/ksm/full_scans"];
  const text = await lab.guest(vm, "sh", "-c", `cat ${files[0]}; echo "full_scans $(cat ${files[1]})"`);
  return new Map(
    [...VMSTAT, "full_scans"].map((name) => [
      name,
      Number(new RegExp(`^${name} (\\d+)$`, "m").exec(text)?.[1] ?? Number.NaN),
    ]),
  );
}

/** Free page reporting at work: what a guest frees is soon no longer allocated on the host. No balloon is inflated by then. */
async function expectReporting(lab: TestLab, vm: string): Promise<void> {
  const used = `dd if=/dev/urandom of=/tmp/reported bs=1M count=${REPORTED_MIB} 2>/dev/null`;
  await lab.guest(vm, "sh", "-c", used);
  const before = allocatedBytes(lab);
  await lab.guest(vm, "rm", "/tmp/reported");
  await until(
    `the host to get back what ${vm} has freed`,
    () => (allocatedBytes(lab) < before - (REPORTED_MIB / 2) * MIB ? true : undefined),
    { timeoutMs: 60_000, intervalMs: 500 },
  );
}

/** Counts what the VMs give back to the host, by balloon or by report, in bytes that go and mostly come again. */
function watchDiscards(
  lab: TestLab,
  signal: AbortSignal,
): { readonly bytes: number; readonly ended: Promise<void> } {
  const counted = { bytes: 0, ended: Promise.resolve() };
  counted.ended = (async () => {
    for (let last = allocatedBytes(lab); !signal.aborted; ) {
      await sleep(WATCH_MS, null, { signal }).catch(() => undefined);
      const now = allocatedBytes(lab);
      counted.bytes += Math.max(0, last - now);
      last = now;
    }
  })().catch(() => undefined);
  return counted;
}

/** Inflates and deflates a balloon until told to stop, or until its VM is gone. */
async function squeeze(socket: string, memoryMib: number, signal: AbortSignal): Promise<void> {
  using qmp = await QmpClient.open(socket);
  for (let small = true; !signal.aborted; small = !small) {
    const value = (memoryMib - (small ? 64 : 0)) * MIB;
    // A guest under such a load may not answer in time; whether it did at all, `expectBusy` tells. A VM that is gone ends it.
    await qmp.execute("balloon", { value }).catch((error: unknown) => {
      if (isMwarpError(error, "MWARP_E_VM_UNREACHABLE")) throw error;
    });
    await sleep(haste.balloonMs, null, { signal }).catch(() => undefined);
  }
}

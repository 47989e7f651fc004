/**
 * The adversary (DESIGN.md, section 8): everything a guest kernel and a VMM do to move, merge, swap and drop pages, all at
 * once and all the time, in a lab of VMs that have a balloon with free page reporting.
 */
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { isMwarpError } from "../../src/errors.js";
import { QmpClient } from "../../src/vm/qmp.js";
import type { LabOptions, TestLab } from "./lab.js";

const MIB = 1024 * 1024;
const vms = ["vm-a", "vm-b"] as const;
/** What the adversary leaves available in a guest, KiB: enough for a container to come. */
const LEFT_KIB = 240 * 1024;

/** How little it rests: khugepaged, KSM and the balloon, ms between two rounds; the loops, seconds. */
interface Haste {
  readonly collapseMs: number;
  readonly mergeMs: number;
  readonly balloonMs: number;
  readonly rest: number;
}
/** Without any rest at all a move takes half a minute where two emulated guests share two processors. */
const haste: Haste =
  process.env.MWARP_TEST_LONG === "1"
    ? { collapseMs: 0, mergeMs: 20, balloonMs: 400, rest: 0.1 }
    : { collapseMs: 100, mergeMs: 100, balloonMs: 4_000, rest: 1.5 };

/** For root in a guest. Loops run niced: they shall meddle, not keep the machine from working. */
const script = (haste: Haste): string => `
set -e
modprobe zram; echo 256M > /sys/block/zram0/disksize; mkswap /dev/zram0 >/dev/null; swapon /dev/zram0
modprobe virtio_balloon
cd /sys/kernel/mm/ksm; echo 1000 > pages_to_scan; echo ${haste.mergeMs} > sleep_millisecs; echo 1 > use_zero_pages; echo 1 > run
cd /sys/kernel/mm/transparent_hugepage/khugepaged
echo ${haste.collapseMs} > scan_sleep_millisecs; echo 0 > alloc_sleep_millisecs; echo 512 > pages_to_scan
cd /
loop() { nice -n 19 sh -c "while [ ! -e /tmp/adversary-ends ]; do $1; sleep ${haste.rest}; done" >/dev/null 2>&1 </dev/null & }
loop 'echo 1 > /proc/sys/vm/compact_memory'
loop 'find /usr /etc /proc/sys -xdev; echo 2 > /proc/sys/vm/drop_caches'
loop 'cat /usr/bin/* | head -c 50000000; echo 1 > /proc/sys/vm/drop_caches'
mkdir -p /tmp/hog
loop 'free=$(sed -n "s/MemAvailable: *\\([0-9]*\\).*/\\1/p" /proc/meminfo); if [ $free -gt ${LEFT_KIB} ]; then dd if=/dev/urandom of=/tmp/hog/$(date +%N) bs=1M count=8; else rm -f $(ls -d /tmp/hog/* | head -4); fi'
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

const balloonSocket = (runDir: string, vm: string): string => path.join(runDir, "vms", vm, "balloon.sock");

export interface Adversary extends AsyncDisposable {
  /** Fails unless both guests were really kept busy since the start. */
  expectBusy(): Promise<void>;
}

/** Begins in both VMs; ends when disposed, or with the VMs. */
export async function startAdversary(lab: TestLab, memoryMib: number): Promise<Adversary> {
  const ending = new AbortController();
  for (const vm of vms) await lab.guest(vm, "sh", "-c", script(haste));
  const before = await Promise.all(vms.map((vm) => deeds(lab, vm)));
  const balloons = Promise.allSettled(
    vms.map((vm) => squeeze(balloonSocket(lab.runDir, vm), memoryMib, ending.signal)),
  );
  return {
    async expectBusy() {
      for (const [index, vm] of vms.entries()) {
        const now = await deeds(lab, vm);
        for (const [deed, count] of now)
          expect(count, `${deed} in ${vm}`).toBeGreaterThan(before[index].get(deed)!);
      }
    },
    // The VMs are ended next, and with them all that goes on in them.
    [Symbol.asyncDispose]: async () => {
      ending.abort();
      await balloons;
    },
  };
}

/** What a guest's kernel has done of what the adversary is there for, by name in /proc/vmstat. */
async function deeds(lab: TestLab, vm: string): Promise<Map<string, number>> {
  const text = await lab.guest(vm, "cat", "/proc/vmstat");
  const names = ["compact_migrate_scanned", "pgmigrate_success", "drop_pagecache", "balloon_inflate"];
  return new Map(
    names.map((name) => [name, Number(new RegExp(`^${name} (\\d+)$`, "m").exec(text)?.[1] ?? Number.NaN)]),
  );
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

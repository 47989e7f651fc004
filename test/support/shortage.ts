/** Things that run out or break in the middle of a migration: room on a disk, room in a guest, a stage of CRIU. */
import { execFileSync } from "node:child_process";
import { statSync } from "node:fs";
import { expect } from "vitest";
import { DaemonStatusSchema } from "./documents.js";
import type { TestLab } from "./lab.js";

/**
 * A full disk, for the daemon alone: no file of its grows beyond the size that `file` has now (RLIMIT_FSIZE; a write then fails
 * with EFBIG as it would with ENOSPC). Undo it with `roomForDaemon`.
 */
export async function noRoomForDaemon(lab: TestLab, file: string): Promise<void> {
  await limitDaemonFiles(lab, String(statSync(file).size));
}

export async function roomForDaemon(lab: TestLab): Promise<void> {
  await limitDaemonFiles(lab, "unlimited");
}

async function limitDaemonFiles(lab: TestLab, bytes: string): Promise<void> {
  const { pid } = await lab.mwarp.json(DaemonStatusSchema, ["daemon", "status"]);
  execFileSync("prlimit", ["--pid", String(pid), `--fsize=${bytes}:unlimited`]);
}

const MOUNT = 'm=$(df -P /run/mwarp-guest | tail -1 | sed "s/.* //")';

/** Leaves no free page in the file system where a VM's agent keeps images and containers. */
export async function noRoomInGuest(lab: TestLab, vm: string): Promise<void> {
  const used = `$(df -kP $m | tail -1 | { read -r _ _ used _; echo $used; })`;
  await lab.guest(vm, "sh", "-ec", `${MOUNT}; mount -o remount,size=${used}k $m`);
}

export async function roomInGuest(lab: TestLab, vm: string): Promise<void> {
  await lab.guest(vm, "sh", "-ec", `${MOUNT}; mount -o remount,size=90% $m`);
}

/**
 * CRIU's own fault injection (criu/include/fault-injection.h): what of it ends a dump or a restore, in the order in which CRIU
 * comes by. Not FI_RESTORE_OPEN_LINK_REMAP (4): a container that had a file without a name open was restored without it.
 */
export const criuFaults = {
  parasiteConnect: 5,
  dumpEarly: 1,
  dumpPages: 3,
  restoreRoot: 2,
  postRestore: 6,
} as const;

/** Every CRIU in a VM fails at a stage until `criuWorks`. Its processes keep their name. */
export async function criuFails(lab: TestLab, vm: string, fault: keyof typeof criuFaults): Promise<void> {
  await wrapCriu(lab, vm, `CRIU_FAULT=${criuFaults[fault]} exec`);
}

/**
 * No CRIU in a VM can give a task a seccomp filter until `criuWorks`. The program that sees to it comes from the root file
 * system of a test container that is or was in that VM.
 */
export async function criuLoadsNoFilter(lab: TestLab, vm: string): Promise<void> {
  const find = "find / -path /proc -prune -o -path /sys -prune -o -path '*/bin/no-seccomp' -print | head -1";
  const found = await lab.guest(vm, "sh", "-c", find);
  expect(found.trim(), "path of no-seccomp in the guest").not.toBe("");
  await wrapCriu(lab, vm, `exec ${found.trim()}`);
}

async function wrapCriu(lab: TestLab, vm: string, how: string): Promise<void> {
  const script = `
real=$(command -v criu); mkdir -p /usr/lib/criu-real; cp -a $real /usr/lib/criu-real/criu; mv $real $real.kept
printf '#!/bin/sh\\n${how} /usr/lib/criu-real/criu "$@"\\n' > $real; chmod 755 $real`;
  await lab.guest(vm, "sh", "-ec", script);
}

export async function criuWorks(lab: TestLab, vm: string): Promise<void> {
  await lab.guest(vm, "sh", "-ec", "real=$(command -v criu); mv $real.kept $real; rm -r /usr/lib/criu-real");
}

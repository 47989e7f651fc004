/**
 * Transparent huge pages behind a VM's RAM. For memory files of the kernel's own (memfd) they are a setting of the whole host;
 * a tmpfs has one of its own. So QEMU's memory file lies in a tmpfs made for this VM alone: nothing of the host is changed, and
 * nothing can be left behind, as the file system is mounted in a namespace that ends with QEMU.
 */
import { existsSync, readFileSync } from "node:fs";
import { MwarpError } from "../errors.js";

const SETTING = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

/** Why the host cannot back VMs with transparent huge pages, by the text of `shmem_enabled` (null: there is none); null when it can. */
export function whyNoThp(setting: string | null): string | null {
  if (setting === null) return "the host kernel has none for memory files";
  if (setting.includes("[deny]")) return `the host denies them to every memory file (${SETTING})`;
  return null;
}

/** @throws MWARP_E_LAB */
export function requireThp(): void {
  const reason = whyNoThp(existsSync(SETTING) ? readFileSync(SETTING, "utf8") : null);
  if (reason !== null) throw noThp(reason);
}

/** Command line prefix that runs a program with a tmpfs of its own at `directory`, in which whatever can be is a huge page. */
export const insideTmpfs = (directory: string, bytes: number): string[] => [
  "unshare",
  "--mount",
  // What the host unmounts goes here, too; what is mounted here stays here.
  "--propagation",
  "slave",
  "sh",
  "-c",
  `mkdir -p "$0" && mount -t tmpfs -o huge=always,mode=0700,size=${bytes} mwarp-memory "$0" && exec "$@"`,
  directory,
];

/** Bytes of memory files that a process maps as huge pages, by the text of its smaps. */
export const hugeShmemBytes = (smaps: string): number =>
  [...smaps.matchAll(/^ShmemPmdMapped:\s+(\d+) kB$/gm)].reduce((sum, [, kib]) => sum + Number(kib) * 1024, 0);

/** Looks whether a VM that has booted got any. @throws MWARP_E_LAB */
export function checkThp(vm: string, pid: number): void {
  if (hugeShmemBytes(readFileSync(`/proc/${pid}/smaps`, "utf8")) > 0) return;
  throw noThp(`${vm} has booted, and the host gave it not one`);
}

const noThp = (reason: string): MwarpError =>
  new MwarpError("MWARP_E_LAB", `no transparent huge pages: ${reason}`, {
    hint: "Use --backing hugetlb for reserved ones, or --backing 4k for none.",
  });

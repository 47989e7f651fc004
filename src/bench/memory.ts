/** How much memory the VMs of a run need, and which cells fit the host. */
import { formatBytes } from "../cli/output/format.js";
import { MwarpError } from "../errors.js";
import type { MigrationMethod } from "../protocol/migration.js";
import { HUGE_BYTES } from "../units.js";
import type { Cell } from "./records.js";

const MIB = 1024 ** 2;
/** The guest's system, its page cache, the agent. */
const GUEST_BYTES = 640 * MIB;
/** What stays for the host, the VMMs' own memory and the daemon. */
const SPARE_BYTES = 2 * 1024 ** 3;
const VMS = 2;

/**
 * Container's memory that a VM holds at most, as a multiple of its size. `cold`: the images on tmpfs and what is restored from
 * them; `precopy`: also the images of the rounds before the last.
 */
const held: Readonly<Record<MigrationMethod, number>> = { warp: 1.1, postcopy: 1.2, cold: 2.2, precopy: 3.2 };

/** Memory of each VM for this cell, bytes. */
const neededFor = ({ size, method }: Cell): number =>
  Math.ceil((GUEST_BYTES + size * held[method]) / HUGE_BYTES) * HUGE_BYTES;

export const fits = (cell: Cell, memoryBytes: number): boolean => neededFor(cell) <= memoryBytes;

/**
 * Memory of each VM, the same for all labs of a run: what the largest cell needs for which the host has enough.
 * @param available memory of the host that is free for VMs, bytes
 * @throws MWARP_E_NO_MEMORY when that is none
 */
export function guestMemory(cells: readonly Cell[], available: number): number {
  const most = (available - SPARE_BYTES) / VMS;
  const memoryBytes = Math.max(0, ...cells.map(neededFor).filter((bytes) => bytes <= most));
  if (memoryBytes > 0) return memoryBytes;
  const wanted = formatBytes(VMS * Math.min(...cells.map(neededFor)) + SPARE_BYTES);
  throw new MwarpError(
    "MWARP_E_NO_MEMORY",
    `${formatBytes(available)} are available, the smallest cell needs ${wanted}`,
    {
      hint: "Measure smaller containers: --size.",
    },
  );
}

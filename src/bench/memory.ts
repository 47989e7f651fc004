/** How much memory the VMs of a run need, and which cells fit the host. */
import { formatBytes } from "../cli/output/format.js";
import { MwarpError } from "../errors.js";
import type { MigrationMethod } from "../protocol/migration.js";
import { HUGE_BYTES, MIB } from "../units.js";
import type { ApplicationCell, Cell } from "./records.js";

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

/** What an application holds at most, its own memory included: more than any of them has. */
const APPLICATION_BYTES = 384 * MIB;

/** A container that is moved: a cell of the matrix, or an application. */
type Moved = Pick<Cell, "size" | "method">;
export const movedApplication = ({ method }: ApplicationCell): Moved => ({ size: APPLICATION_BYTES, method });

/** Memory of each VM for this container, bytes. */
const neededFor = ({ size, method }: Moved): number =>
  Math.ceil((GUEST_BYTES + size * held[method]) / HUGE_BYTES) * HUGE_BYTES;

export const fits = (moved: Moved, memoryBytes: number): boolean => neededFor(moved) <= memoryBytes;

/**
 * Memory of each VM, the same for all labs of a run: what the largest container needs for which the host has enough.
 * @param available memory of the host that is free for VMs, bytes
 * @throws MWARP_E_NO_MEMORY when it has enough for none of them
 */
export function guestMemory(moved: readonly Moved[], available: number): number {
  if (moved.length === 0) return 0;
  const most = (available - SPARE_BYTES) / VMS;
  const memoryBytes = Math.max(0, ...moved.map(neededFor).filter((bytes) => bytes <= most));
  if (memoryBytes > 0) return memoryBytes;
  const wanted = formatBytes(VMS * Math.min(...moved.map(neededFor)) + SPARE_BYTES);
  throw new MwarpError(
    "MWARP_E_NO_MEMORY",
    `${formatBytes(available)} are available, the smallest container needs ${wanted}`,
    {
      hint: "Measure smaller containers: --size.",
    },
  );
}

/** What the rest of mWarp knows of a VM: a name, a VMM process and the doors into it. */
import type { ByteCount, Gpa, Hva } from "../units.js";

/** A piece of guest RAM that is contiguous both in guest-physical space and in the VMM's address space. */
export interface RamRegion {
  readonly gpa: Gpa;
  readonly hva: Hva;
  readonly bytes: ByteCount;
}

/** Guest RAM, regions in ascending GPA order, without overlaps. HVAs never change while the VMM lives. */
export interface MemoryLayout {
  readonly regions: readonly RamRegion[];
  readonly bytes: ByteCount;
  /** Size of the host pages behind guest RAM: 4096, or 2 MiB on hugetlb. */
  readonly hostPageBytes: ByteCount;
  /** Whether the host maps 4 KiB pages of it together as transparent huge pages, by and large; absent: it does not. */
  readonly transparentHuge?: boolean;
}

/** How to reach one VM; what the lab writes down and `vm attach` takes. */
export interface VmEndpoint {
  readonly name: string;
  /** The VMM's pid and its start time (field 22 of /proc/PID/stat), which tells it from a later process with that pid. */
  readonly pid: number;
  readonly startTime: string;
  readonly qmpSocket: string;
  readonly agentSocket: string;
  /** Socket of the preloaded library; null for a VM started without it (only the copy back end then). */
  readonly vmmSocket: string | null;
  /** The VM's own address on the bridge. */
  readonly address: string | null;
}

/** Whether guest RAM can be reached and exchanged; `reason` is said in preflight. */
export type MemoryBacking =
  | { readonly kind: "shared-memfd"; readonly layout: MemoryLayout }
  | { readonly kind: "unsuitable"; readonly reason: string };

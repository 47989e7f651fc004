/** What an agent says of its guest: versions, memory, processor, and where its kernel keeps what the host reads. */
import * as z from "zod/mini";

const uint = z.int().check(z.minimum(0));

const us = z.number().check(z.minimum(0), z.maximum(1e9));

/** Times in us. */
export const FaultCostsSchema = z.object({
  /** Faulting in 2 MiB as a huge page, and 4 KiB as a small one. */
  hugeUs: us,
  smallUs: us,
  /** Taking them back after a fork, from nobody. */
  takeHugeUs: us,
  takeSmallUs: us,
  /** Making a small mapping, moving it, and unmapping it. */
  moveUs: us,
});
export type FaultCosts = z.infer<typeof FaultCostsSchema>;

export const GuestInfoSchema = z.object({
  protocol: z.int(),
  agentVersion: z.string(),
  /** Changes at each boot of the VM. */
  bootId: z.string(),
  hostname: z.string(),
  kernel: z.string(),
  criuVersion: z.nullable(z.string()),
  runcVersion: z.nullable(z.string()),
  /** Null where there is none; `criu`: whether it was built to use CRIU, and finds CRIU's library. */
  crun: z._default(z.nullable(z.object({ version: z.string(), criu: z.boolean() })), null),
  /** Whether runc and CRIU can have mWarp's stand-ins (agent/quick-tools.ts). Both sides of a migration must, or neither. */
  quickTools: z.boolean(),
  /** Whether its kernel speaks IPv6. */
  ipv6: z.boolean(),
  /** Whether its kernel takes over connections that wait to be accepted (native/guest/admission.h). */
  admitsConnections: z.boolean(),
  memTotalBytes: uint,
  memAvailableBytes: uint,
  swapTotalBytes: uint,
  transparentHugepages: z.string(),
  /** What the kernel takes for memory that is staged, or is not (native/guest/faults.c); null when it cannot stage any. */
  faultCosts: z.nullable(FaultCostsSchema),
  /** Sorted flags of the first processor in /proc/cpuinfo. */
  cpuFlags: z.array(z.string()),
  /** Size of a signal frame, which holds the processor's whole XSAVE area (AT_MINSIGSTKSZ); 0 when not known. */
  signalFrameBytes: uint,
  /** Virtual address at which the kernel maps physical address 0, decimal string (does not fit a number). */
  directMapBase: z.string(),
  /**
   * Virtual address of the struct page array and the offsets mWarp reads, from BTF and kallsyms. `mappingOffset` is
   * that of page->mapping, whose low bits tell an anonymous page from a KSM page and from the zero pages.
   */
  structPage: z.object({
    vmemmapBase: z.string(),
    bytes: uint,
    flagsOffset: uint,
    compoundHeadOffset: uint,
    mappingOffset: uint,
    refcountOffset: uint,
  }),
  /** Offsets in task_struct and mm_struct, from BTF. */
  taskStruct: z.object({ pidOffset: uint, mmOffset: uint, mmPgdOffset: uint }),
  /** GPA of the kernel's own page-table root (init_mm / swapper_pg_dir). */
  kernelRootGpa: uint,
});
export type GuestInfo = z.infer<typeof GuestInfoSchema>;

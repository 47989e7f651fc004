/**
 * What exchanging memory costs on a host, as it is kept in the state directory: the daemon writes it, `mwarp doctor` shows it.
 * Costs are microseconds.
 */
import * as z from "zod/mini";

/** Of the file. Another number, and the host is measured anew. */
export const COSTS_VERSION = 1;

/** 4 KiB pages; shared memory that the kernel gives 2 MiB pages where it can; reserved 2 MiB pages. */
export const memoryKinds = ["4k", "thp", "hugetlb"] as const;
export type MemoryKind = (typeof memoryKinds)[number];

/** A second for one page is no cost but an error. */
const us = z.number().check(z.minimum(0), z.maximum(1e6));

/** Pages are 4 KiB ones, whatever the memory is made of. An extent is one mmap in each VMM. */
export const ExchangeCostsSchema = z.object({
  /** Once per exchange that remaps anything: opening files in both VMMs, round trips. */
  remapSetupUs: us,
  remapPerExtentUs: us,
  remapPerPageUs: us,
  /** Paid after the stun, when the guest first uses what was remapped; the planner counts it all the same. */
  touchPerExtentUs: us,
  touchPerPageUs: us,
  /** Once per exchange that copies anything. */
  copySetupUs: us,
  copyPerExtentUs: us,
  copyPerPageUs: us,
});
export type ExchangeCosts = z.infer<typeof ExchangeCostsSchema>;

/** What the costs were measured on; when any of it is another, they are measured anew. */
export const CostHostSchema = z.object({
  kernel: z.string(),
  cpu: z.string(),
  processors: z.int(),
  /** The kernel's setting for huge pages of shared memory. */
  shmem_huge: z.string(),
});
export type CostHost = z.infer<typeof CostHostSchema>;

export const CostFileSchema = z.object({
  version: z.literal(COSTS_VERSION),
  measured_at: z.string(),
  time_ms: z.number(),
  host: CostHostSchema,
  /** Others kept the processors busy meanwhile: the figures are too high, and are measured again when they do not. */
  busy: z.boolean(),
  /** Null: such memory could not be had, and what is built in holds. */
  costs: z.object({
    "4k": z.nullable(ExchangeCostsSchema),
    thp: z.nullable(ExchangeCostsSchema),
    hugetlb: z.nullable(ExchangeCostsSchema),
  }),
});
export type CostFile = z.infer<typeof CostFileSchema>;

/**
 * Results of `mwarp bench`: a file of JSON lines, one record each, appended as it is measured. The first line is `run`; whoever
 * reads the file needs nothing else. Times are ms on the host's clock, memory is bytes.
 */
import * as z from "zod/mini";
import {
  BackendChoiceSchema,
  MigrationMethodSchema,
  MigrationReportSchema,
  StrategyChoiceSchema,
} from "../protocol/migration.js";

export const RECORD_VERSION = 1;

const ms = z.number();
const count = z.int();

/** What host memory the VMs' RAM is made of. */
export const backings = ["4k", "thp", "hugetlb"] as const;
export const BackingSchema = z.enum(backings);
export type Backing = z.infer<typeof BackingSchema>;

/** How the container's own pages lie in its guest: 2 MiB ones, or single ones scattered over guest-physical memory. */
export const pageKinds = ["thp", "scattered"] as const;
export const PageKindSchema = z.enum(pageKinds);
export type PageKind = z.infer<typeof PageKindSchema>;

/** One point of the matrix. */
export const CellSchema = z.object({
  backing: BackingSchema,
  pages: PageKindSchema,
  /** Memory of the container's processes together, bytes. */
  size: count,
  processes: count,
  /** Pages that are written anew each second, as a share of `size`: 0 none, 1 all of them. */
  write_share: z.number(),
  method: MigrationMethodSchema,
  backend: BackendChoiceSchema,
  strategy: z._default(StrategyChoiceSchema, "auto"),
});
export type Cell = z.infer<typeof CellSchema>;

export const applications = ["redis", "postgres", "memory"] as const;
export const ApplicationSchema = z.enum(applications);
export type Application = z.infer<typeof ApplicationSchema>;

/** An application that is moved while a client is busy with it. */
const ApplicationCellSchema = z.object({
  application: ApplicationSchema,
  backing: BackingSchema,
  method: MigrationMethodSchema,
});
export type ApplicationCell = z.infer<typeof ApplicationCellSchema>;

/** What a run is to measure, so that one that was cut off can be gone on with. */
export const PlanSchema = z.object({
  /** Name of a suite of suites.ts. */
  suite: z.string(),
  /** Repetitions of every measurement. */
  rounds: count,
  cells: z.array(CellSchema),
  applications: z.array(ApplicationCellSchema),
  /** Repetitions of what is measured on the host without a VM. */
  planner_rounds: count,
  /** Cells whose container is busy with its pages, for how long they take after the move. */
  stalls: z.optional(z.array(CellSchema)),
  /** Whether the floor of a downtime is measured in each round. */
  floor: z.optional(z.boolean()),
});
export type Plan = z.infer<typeof PlanSchema>;

export const RunRecordSchema = z.object({
  kind: z.literal("run"),
  version: z.literal(RECORD_VERSION),
  id: z.string(),
  started_at: z.string(),
  /** As it was typed. */
  command: z.array(z.string()),
  /** Commit of the program; `-dirty` follows when files differ from it; null outside a checkout. */
  commit: z.nullable(z.string()),
  machine: z.object({
    cpu: z.string(),
    cores: count,
    memory: count,
    kernel: z.string(),
    node: z.string(),
    qemu: z.string(),
  }),
  accelerator: z.enum(["kvm", "tcg"]),
  guest: z.object({
    kernel: z.string(),
    criu: z.string(),
    runc: z.string(),
    memory: count,
    cpus: count,
  }),
  /** Order of the cells in each round follows from it. */
  seed: count,
  /** Digest of the program's code: tells two states of one dirty checkout apart. */
  build: z.optional(z.string()),
  plan: z.optional(PlanSchema),
});
export type RunRecord = z.infer<typeof RunRecordSchema>;

/** Raw TCP between the VMs, through the very interfaces that the baselines use. */
export const NetworkRecordSchema = z.object({
  kind: z.literal("network"),
  backing: BackingSchema,
  round: count,
  from: z.string(),
  to: z.string(),
  bytes: count,
  time_ms: ms,
});
export type NetworkRecord = z.infer<typeof NetworkRecordSchema>;

/** Stock runc takes a process of 1 MiB down and brings it up again in one VM: the least that a downtime by runc and CRIU can be. */
export const FloorRecordSchema = z.object({
  kind: z.literal("floor"),
  backing: BackingSchema,
  round: count,
  vm: z.string(),
  load: z.number(),
  /** From the last instant at which the process ran before to the first after, on the guest's clock. */
  frozen_ms: ms,
  /** From before the checkpoint's runc was started until the restore's had ended. */
  commands_ms: ms,
});
export type FloorRecord = z.infer<typeof FloorRecordSchema>;

/** What the host spent, from the command to its answer. */
export const UsageSchema = z.object({
  /** CPU time of both VMMs and of the daemon, ms. */
  cpu_ms: z.object({ source_vmm: ms, destination_vmm: ms, daemon: ms }),
  /** Proportional set size of both VMMs and the daemon together: before, and the highest seen. */
  pss: z.object({ before: count, peak: count }),
});
export type Usage = z.infer<typeof UsageSchema>;

/** One migration of a cell. */
export const MigrationRecordSchema = z.object({
  kind: z.literal("migration"),
  cell: CellSchema,
  round: count,
  /** Load average of the host over the minute before. */
  load: z.number(),
  report: MigrationReportSchema,
  usage: UsageSchema,
  /** From the first to the last access of a pass over every page, begun as soon as the container answered; null: not asked for. */
  first_touch_ms: z.nullable(ms),
  /** The same pass once more, when nothing has to be mapped any longer. */
  second_touch_ms: z.nullable(ms),
  /** Whether every page had what it should have had. */
  verified: z.boolean(),
});
export type MigrationRecord = z.infer<typeof MigrationRecordSchema>;

/** Pages whose first access after a move took at least `from_ns` and less than `to_ns`, in ns. */
export const StallBucketSchema = z.object({ from_ns: count, to_ns: count, pages: count });
export type StallBucket = z.infer<typeof StallBucketSchema>;

/** A move while a thread of the container reads and writes all its pages in random order: how long each takes when it is first accessed after it. */
export const StallRecordSchema = z.object({
  kind: z.literal("stalls"),
  cell: CellSchema,
  round: count,
  load: z.number(),
  report: MigrationReportSchema,
  stalls: z.object({
    /** Passes over all pages before the move. */
    passes: count,
    /** Pages that were accessed: all of the container's first process. */
    pages: count,
    /** From the resume, to a few ms, to the end of the last access. */
    window_ms: ms,
    longest_ms: ms,
    /** Without those that hold no pages. */
    histogram: z.array(StallBucketSchema),
  }),
  verified: z.boolean(),
});
export type StallRecord = z.infer<typeof StallRecordSchema>;

/** What a plan promised and what it took, on memory of this host without a VM: invariant I7 measured. */
export const PlannerRecordSchema = z.object({
  kind: z.literal("planner"),
  round: count,
  /** What the layout looks like, in words: "runs of 1 to 64 pages". */
  layout: z.string(),
  host_page_bytes: count,
  pages: count,
  extents: count,
  predicted_ms: z.object({ auto: ms, remap: z.nullable(ms), copy: ms }),
  /** Exchange and touch of every page after it. */
  measured_ms: z.object({ auto: ms, remap: z.nullable(ms), copy: ms }),
});

export type PlannerRecord = z.infer<typeof PlannerRecordSchema>;

/** Costs by length of run: where remapping and copying cross over. */
export const CrossoverRecordSchema = z.object({
  kind: z.literal("crossover"),
  round: count,
  host_page_bytes: count,
  pages: count,
  run_pages: count,
  remap_ms: ms,
  touch_ms: ms,
  copy_ms: ms,
});
export type CrossoverRecord = z.infer<typeof CrossoverRecordSchema>;

/** One interval of a client's time; latencies are of the operations that ended in it, null when none did. */
export const SampleSchema = z.object({
  /** Begin of the interval; 0 is the instant at which the migration was asked for. */
  at_ms: ms,
  operations: count,
  p50_ms: z.nullable(ms),
  p99_ms: z.nullable(ms),
  max_ms: z.nullable(ms),
});
export type Sample = z.infer<typeof SampleSchema>;

/** An application with a busy client outside, in a fixed window around the command. */
export const ApplicationRecordSchema = z.object({
  kind: z.literal("application"),
  application: ApplicationSchema,
  backing: BackingSchema,
  method: MigrationMethodSchema,
  round: count,
  load: z.number(),
  /** What the client did, for people: "GET and SET 1:1 of 65536 keys of 4 KiB, 8 connections". */
  client: z.string(),
  interval_ms: ms,
  samples: z.array(SampleSchema),
  /** Operations in the window, and those that the rate before the command would have made in the same time. */
  operations: count,
  expected_operations: z.number(),
  /** What the client saw go wrong. */
  faults: z.object({ connections_lost: count, wrong_answers: count }),
  report: MigrationReportSchema,
});
export type ApplicationRecord = z.infer<typeof ApplicationRecordSchema>;

/** A cell or application that failed: the run goes on, and the report names it. */
export const FailureRecordSchema = z.object({
  kind: z.literal("failure"),
  /** What was being measured, as in the progress line. */
  what: z.string(),
  round: count,
  code: z.string(),
  message: z.string(),
});
export type FailureRecord = z.infer<typeof FailureRecordSchema>;

export const BenchRecordSchema = z.discriminatedUnion("kind", [
  RunRecordSchema,
  NetworkRecordSchema,
  FloorRecordSchema,
  MigrationRecordSchema,
  StallRecordSchema,
  PlannerRecordSchema,
  CrossoverRecordSchema,
  ApplicationRecordSchema,
  FailureRecordSchema,
]);
export type BenchRecord = z.infer<typeof BenchRecordSchema>;

/** Migrations as other programs see them: the request, the events, the report. The report is a contract (DESIGN.md, section 7). */
import * as z from "zod/mini";
import { errorCodes } from "../errors.js";

/** `warp` exchanges frames on the host; the others send the pages over the VMs' network: all, in rounds, or after the move. */
export const migrationMethods = ["warp", "cold", "precopy", "postcopy"] as const;
export const MigrationMethodSchema = z.enum(migrationMethods);
export type MigrationMethod = z.infer<typeof MigrationMethodSchema>;

/** `auto` lets the planner choose per extent; `remap` exchanges all that can be; `copy` needs no preloaded library. */
export const backendChoices = ["auto", "remap", "copy"] as const;
export const BackendChoiceSchema = z.enum(backendChoices);
export type BackendChoice = z.infer<typeof BackendChoiceSchema>;

/**
 * When the destination's memory is faulted in: `eager`, while the container stands still; `staged`, most of it before that, to be
 * handed over to the restored tasks. `auto` takes what the measured costs say.
 */
export const strategies = ["eager", "staged"] as const;
export const StrategySchema = z.enum(strategies);
export type Strategy = z.infer<typeof StrategySchema>;
export const strategyChoices = ["auto", ...strategies] as const;
export const StrategyChoiceSchema = z.enum(strategyChoices);
export type StrategyChoice = z.infer<typeof StrategyChoiceSchema>;

export const timeoutActions = ["cancel", "proceed"] as const;
export type TimeoutAction = (typeof timeoutActions)[number];

export const MigrationRequestSchema = z.object({
  container: z.string(),
  to: z.string(),
  method: MigrationMethodSchema,
  backend: BackendChoiceSchema,
  /** Of a warp; the other methods have none. */
  strategy: z._default(StrategyChoiceSchema, "auto"),
  dryRun: z.boolean(),
  /** Limit for the whole migration up to the commit, ms; null for the default. */
  timeoutMs: z.nullable(z.int()),
  /** Limit for how long the container may stand still before the commit, ms; null for none. */
  maxDowntimeMs: z.nullable(z.int()),
  /** What to do when one of these two limits passes: roll back, or say so and go on. */
  onTimeout: z._default(z.enum(timeoutActions), "cancel"),
  /** Limit for how long both VMs may stand still until the exchange of frames begins, ms; null for the default. */
  maxStunMs: z.nullable(z.int()),
});
export type MigrationRequest = z.infer<typeof MigrationRequestSchema>;

export const phases = [
  "preflight",
  "prepare",
  "dump",
  "transfer",
  "restore",
  "populate",
  "warp",
  "resume",
  "retire",
] as const;
export const PhaseSchema = z.enum(phases);
export type Phase = z.infer<typeof PhaseSchema>;

/**
 * Of a stun, in order: QEMU pauses both VMs; it is asked what has begun since preflight; page tables and struct pages are read and
 * every page is classified; what backs the RAM is read and the plan made; frames are exchanged and copied; the journal has the
 * commit; QEMU lets both VMs go on.
 */
export const stunParts = ["pause", "check", "walk", "plan", "exchange", "commit", "continue"] as const;
const StunPartSchema = z.enum(stunParts);
export type StunPart = z.infer<typeof StunPartSchema>;
export type StunParts = Readonly<Record<StunPart, number>>;
export const NO_STUN: StunParts = Object.freeze({
  pause: 0,
  check: 0,
  walk: 0,
  plan: 0,
  exchange: 0,
  commit: 0,
  continue: 0,
});

/**
 * Who a container waits for while it stands still: CRIU; runc; the agents, their channels and all else in the guests; the
 * destination's kernel, which faults pages in; nobody, as both VMs are paused; the host. CRIU and runc of the methods over the
 * network count as the agents, because nobody stands between the two there.
 */
export const downtimeParts = ["criu", "runc", "agents", "populate", "stun", "host"] as const;
const DowntimePartSchema = z.enum(downtimeParts);
export type DowntimePart = z.infer<typeof DowntimePartSchema>;
export type DowntimeParts = Readonly<Record<DowntimePart, number>>;
export const NO_DOWNTIME: DowntimeParts = Object.freeze({
  criu: 0,
  runc: 0,
  agents: 0,
  populate: 0,
  stun: 0,
  host: 0,
});

const ms = z.number();
const count = z.int();

export const MigrationReportSchema = z.object({
  id: z.string(),
  container: z.string(),
  from: z.string(),
  to: z.string(),
  method: MigrationMethodSchema,
  /** What did the work: `remap` when any page was remapped, else `copy`; null for methods that exchange nothing. */
  backend: z.nullable(z.enum(["remap", "copy"])),
  /** How a warp had the destination's memory faulted in; null for the other methods, and before it was chosen. */
  strategy: z._default(z.nullable(StrategySchema), null),
  outcome: z.enum(["committed", "aborted", "refused"]),
  error: z.nullable(
    z.object({
      code: z.enum(errorCodes),
      message: z.string(),
      hint: z.string(),
      phase: PhaseSchema,
      /** Every reason when preflight refused; CRIU's or runc's last lines otherwise. */
      details: z.array(z.string()),
    }),
  ),
  /** ISO 8601, host clock. */
  startedAt: z.string(),
  time_ms: z.object({
    total: ms,
    /** From just before the freeze was asked for to just after the destination said it runs, host clock: never less than the truth. */
    downtime: ms,
    /** They add up to the downtime. */
    downtime_parts: z._default(z.record(DowntimePartSchema, ms), NO_DOWNTIME),
    phases: z.record(PhaseSchema, ms),
  }),
  /** How long each VM stood still, and what for; `times` is how often. Of several stuns, the sums. */
  stun_ms: z.object({
    times: z._default(count, 0),
    source: ms,
    destination: ms,
    parts: z._default(z.record(StunPartSchema, ms), NO_STUN),
  }),
  memory: z.object({
    bytes: count,
    pages: count,
    remapped_pages: count,
    copied_pages: count,
    /** Pages whose source frame other tasks of the container map too: exchanged once, copied for the others. */
    shared_pages: count,
    /** Image files that went through the agents' channels. */
    image_bytes: count,
    /**
     * Image files with shared memory, with what lies on tmpfs, and with removed files: their frames were exchanged, or copied by
     * the host. Not among the pages above.
     */
    warped_image_bytes: z._default(count, 0),
    remapped_image_pages: z._default(count, 0),
    copied_image_pages: z._default(count, 0),
    channel_bytes: count,
    /** Page contents that crossed the VMs' network; a page that was sent in several rounds counts each time. */
    network_bytes: z._default(count, 0),
    extents: count,
    /** Faulted in before the freeze, and of mappings that got such memory; of the latter not every page need have been. */
    staged_pages: z._default(count, 0),
    handed_pages: z._default(count, 0),
  }),
  /** The container's own files, as they were sent: while it still ran, and when it stood still. */
  files: z._default(z.object({ first_bytes: count, final_bytes: count }), { first_bytes: 0, final_bytes: 0 }),
  /** Method precopy: the rounds before the freeze, in order. */
  rounds: z._default(z.array(z.object({ bytes: count, time_ms: ms })), []),
  /** The stock tools' command lines, in the order in which they were started. */
  commands: z._default(z.array(z.object({ vm: z.string(), argv: z.array(z.string()) })), []),
});
export type MigrationReport = z.infer<typeof MigrationReportSchema>;

/**
 * What was done with pages of the mWarp table: `exchange`, the frame was the container's alone (the planner may still have copied
 * it, when that is cheaper); `copy`, somebody else holds it, too; `shared`, a task of the container shares it with another
 * one, to which it went; `bytes`, its contents went through the agents before the stun.
 */
export const PageTreatmentSchema = z.enum(["exchange", "copy", "shared", "bytes"]);
export type PageTreatment = z.infer<typeof PageTreatmentSchema>;

/**
 * What pages were on the source. `exclusive`: anonymous, every reference is a leaf of this container, also after a fork inside
 * it. `held`: anonymous, but something else refers to it (a task outside, the swap cache, a pin). `ksm`: merged. `file`: page
 * cache. `zero`, `huge_zero`: CRIU leaves zero pages out, but KSM may put them in a page's place after the dump, and on kernels
 * without PAGEMAP_SCAN (before 6.7) the huge zero page is listed. `absent`: swapped out or dropped when the page tables were
 * walked, or taken from the destination again and again.
 */
export const PageSourceKindSchema = z.enum([
  "exclusive",
  "held",
  "ksm",
  "file",
  "zero",
  "huge_zero",
  "absent",
  "unknown",
]);
export type PageSourceKind = z.infer<typeof PageSourceKindSchema>;

/** Pages contiguous in the address space and on both sides, of one kind, as they were inside the stun. All in units of 4 KiB. */
export const TableRunSchema = z.object({
  /** Pid inside the container. */
  task: count,
  /** Virtual address / 4096. */
  page: count,
  pages: count,
  source_kind: PageSourceKindSchema,
  treatment: PageTreatmentSchema,
  /** Guest-physical address / 4096; null for what went as bytes. */
  source_frame: z.nullable(count),
  destination_frame: z.nullable(count),
});
export type TableRun = z.infer<typeof TableRunSchema>;

/** Live events of a migration, in order; `done` is last. */
export const MigrationEventSchema = z.discriminatedUnion("event", [
  z.object({ event: z.literal("phase"), id: z.string(), phase: PhaseSchema, elapsed_ms: ms }),
  z.object({ event: z.literal("note"), id: z.string(), message: z.string() }),
  z.object({ event: z.literal("committed"), id: z.string(), elapsed_ms: ms }),
  z.object({ event: z.literal("done"), id: z.string(), report: MigrationReportSchema }),
]);
export type MigrationEvent = z.infer<typeof MigrationEventSchema>;

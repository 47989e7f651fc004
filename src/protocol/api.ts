/**
 * The daemon's API: JSON over HTTP on a UNIX socket. One schema for every body, used by both sides.
 *
 * Streams are NDJSON bodies that end with exactly one `exit`, `end` or `error` line; a body that ends without one was
 * cut off. `exec` sends its own stream up: the first line of the request body is the request as JSON, every byte after
 * it is stdin; the answer starts at once, so both flow at the same time. Closing the connection cancels.
 *
 *     GET    /v1/version                       VersionSchema
 *     POST   /v1/shutdown                      ShutdownRequestSchema -> EmptySchema
 *     GET    /v1/vms                           VmListSchema
 *     POST   /v1/vms                           VmEndpointSchema -> VmListingSchema
 *     DELETE /v1/vms/:name                     EmptySchema
 *     POST   /v1/vms/:name/exec                VmExecRequestSchema + stdin -> ExecEventSchema*
 *     GET    /v1/containers                    ContainerListSchema
 *     POST   /v1/containers                    RunRequestSchema -> ContainerListingSchema
 *     DELETE /v1/containers/:name?force=       ContainerRemovedSchema
 *     POST   /v1/containers/:name/stop         StopSchema (restart.ts) -> ContainerStoppedSchema
 *     POST   /v1/containers/:name/start        ContainerListingSchema
 *     POST   /v1/containers/:name/exec         ExecRequestSchema + stdin -> ExecEventSchema*
 *     GET    /v1/containers/:name/logs?follow=&tail=   LogEventSchema*
 *     GET    /v1/migrations                    MigrationListSchema
 *     POST   /v1/migrations                    MigrationRequestSchema -> MigrationStartedSchema
 *     POST   /v1/migrations/plan               MigrationRequestSchema -> MigrationPlanSchema
 *     GET    /v1/migrations/:id                MigrationRecordSchema
 *     GET    /v1/migrations/:id/events         MigrationStreamEventSchema* (from the first event, then live)
 *     GET    /v1/migrations/:id/table          MigrationTableSchema
 *     DELETE /v1/migrations/:id                MigrationCancelSchema
 *     POST   /v1/recover                       RecoveryListSchema
 */
import * as z from "zod/mini";
import { errorCodes } from "../errors.js";
import {
  ContainerStateSchema,
  NameSchema,
  RuntimeNameSchema,
  VolumeSchema,
  VolumeStateSchema,
} from "./container.js";
import { HealthWishSchema, NO_WISH } from "./health.js";
import {
  MigrationEventSchema,
  MigrationReportSchema,
  MigrationRequestSchema,
  PhaseSchema,
  StrategySchema,
  TableRunSchema,
} from "./migration.js";
import { NO_RESTART, RestartPolicySchema } from "./restart.js";
import { WindowSchema } from "./terminal.js";

export const API_VERSION = 1;

const uint = z.int().check(z.minimum(0));
const argv = z.array(z.string()).check(z.minLength(1));

export const EmptySchema = z.object({});

/** Body of every answer that is not 2xx, and of a stream's `error` line. */
export const ErrorBodySchema = z.object({
  code: z.enum(errorCodes),
  message: z.string(),
  hint: z.string(),
  phase: z.nullable(z.string()),
  details: z.array(z.string()),
  exit: z.int(),
});
export type ErrorBody = z.infer<typeof ErrorBodySchema>;

export const VersionSchema = z.object({
  api: z.int(),
  version: z.string(),
  /** Digest of the code that runs (protocol/build.ts); a CLI of another build does not talk to this daemon. */
  build: z.string(),
  pid: z.int(),
  startedAt: z.string(),
  /** Operations under way; zero means the daemon may be replaced. */
  busy: uint,
});
export type Version = z.infer<typeof VersionSchema>;

/** `ifUnused` refuses while a VM is attached; both refuse nothing else and let running migrations end or roll back. */
export const ShutdownRequestSchema = z.object({ ifUnused: z.boolean() });
export type ShutdownRequest = z.infer<typeof ShutdownRequestSchema>;

/** A UNIX socket's path fits 107 bytes. */
const socketPath = z.string().check(z.startsWith("/"), z.maxLength(107));

/** Mirrors VmEndpoint of vm/types.ts: what `vm attach` takes. */
export const VmEndpointSchema = z.object({
  name: NameSchema,
  pid: z.int().check(z.minimum(2)),
  startTime: z.string().check(z.regex(/^\d+$/)),
  qmpSocket: socketPath,
  agentSocket: socketPath,
  vmmSocket: z.nullable(socketPath),
  address: z.nullable(z.string()),
});

export const VmListingSchema = z.object({
  name: z.string(),
  /** `gone`: the VMM process has ended. `unreachable`: it runs, its agent does not answer. */
  state: z.enum(["ready", "unreachable", "gone"]),
  pid: z.int(),
  address: z.nullable(z.string()),
  agent: z.nullable(
    z.object({
      version: z.string(),
      kernel: z.string(),
      criu: z.nullable(z.string()),
      runc: z.nullable(z.string()),
      crun: z._default(z.nullable(z.object({ version: z.string(), criu: z.boolean() })), null),
      memory_total_bytes: uint,
      memory_available_bytes: uint,
    }),
  ),
  memory: z.object({
    shared: z.boolean(),
    bytes: z.nullable(uint),
    host_page_bytes: z.nullable(uint),
    /** Whether the host maps these together as transparent huge pages where it can. */
    transparent_huge: z._default(z.boolean(), false),
    /** Why guest memory cannot be exchanged; null when it can. */
    reason: z.nullable(z.string()),
  }),
  /** Whether mWarp's library is loaded in the VMM: the back end `remap` needs it. */
  library: z.boolean(),
  containers: z.nullable(uint),
  error: z.nullable(ErrorBodySchema),
});
export type VmListing = z.infer<typeof VmListingSchema>;
export const VmListSchema = z.object({ vms: z.array(VmListingSchema) });
export type VmList = z.infer<typeof VmListSchema>;

export const ContainerListingSchema = z.object({ vm: z.string(), container: ContainerStateSchema });
export type ContainerListing = z.infer<typeof ContainerListingSchema>;
export const ContainerListSchema = z.object({
  containers: z.array(ContainerListingSchema),
  /** VMs that did not answer: their containers are missing from the list. */
  unreachable: z.array(z.object({ vm: z.string(), error: ErrorBodySchema })),
});
export type ContainerList = z.infer<typeof ContainerListSchema>;

export const VolumeListingSchema = z.extend(VolumeStateSchema, { vm: z.string() });
export type VolumeListing = z.infer<typeof VolumeListingSchema>;
export const VolumeListSchema = z.object({
  volumes: z.array(VolumeListingSchema),
  /** VMs that did not answer: their volumes are missing from the list. */
  unreachable: z.array(z.object({ vm: z.string(), error: ErrorBodySchema })),
});
export type VolumeList = z.infer<typeof VolumeListSchema>;

/** Where the root file system comes from; paths are absolute, on the daemon's host. */
export const RunSourceSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("rootfs"), directory: z.string(), argv }),
  z.object({ kind: z.literal("bundle"), directory: z.string() }),
  /** An OCI image layout or an archive of images; a command takes the place of the image's Cmd. */
  z.object({
    kind: z.literal("image"),
    file: z.string(),
    tag: z.nullable(z.string()),
    command: z.array(z.string()),
  }),
]);
export type RunSource = z.infer<typeof RunSourceSchema>;

export const RunRequestSchema = z.object({
  name: NameSchema,
  vm: z.string(),
  source: RunSourceSchema,
  env: z.array(z.string().check(z.regex(/^[^=]+=/))),
  workdir: z.nullable(z.string()),
  memoryLimitBytes: z.nullable(uint),
  ipv4: z.nullable(z.string()),
  /** `none` for a container without one. */
  ipv6: z._default(z.nullable(z.string()), null),
  mac: z.nullable(z.string()),
  hostname: z.nullable(z.string()),
  volumes: z.optional(z.array(VolumeSchema)),
  restart: RestartPolicySchema,
  health: HealthWishSchema,
  runtime: z._default(RuntimeNameSchema, "runc"),
  /** A terminal of this size; null for none, or a bundle's own. */
  terminal: z._default(z.nullable(WindowSchema), null),
});
export type RunRequest = z.infer<typeof RunRequestSchema>;

/** A container of a root file system on the host that wants nothing else. */
export const plainContainer = (
  name: string,
  vm: string,
  directory: string,
  argv: readonly string[],
): RunRequest => ({
  name,
  vm,
  source: { kind: "rootfs", directory, argv: [...argv] },
  env: [],
  workdir: null,
  memoryLimitBytes: null,
  ipv4: null,
  ipv6: null,
  mac: null,
  hostname: null,
  restart: NO_RESTART,
  health: NO_WISH,
  runtime: "runc",
  terminal: null,
});

export const VmExecRequestSchema = z.object({ argv });
export const ExecRequestSchema = z.object({
  argv,
  env: z.array(z.string()),
  cwd: z.nullable(z.string()),
});
export type ExecRequest = z.infer<typeof ExecRequestSchema>;

export const ContainerStoppedSchema = z.object({ name: z.string(), exitCode: z.nullable(z.int()) });
export type ContainerStopped = z.infer<typeof ContainerStoppedSchema>;

export const ContainerRemovedSchema = z.object({ name: z.string() });

const streamError = z.object({ event: z.literal("error"), error: ErrorBodySchema });
const streamEnd = z.object({ event: z.literal("end") });

export const ExecEventSchema = z.discriminatedUnion("event", [
  z.object({ event: z.literal("data"), fd: z.union([z.literal(1), z.literal(2)]), base64: z.string() }),
  z.object({ event: z.literal("exit"), exitCode: z.int() }),
  streamError,
]);
export type ExecEvent = z.infer<typeof ExecEventSchema>;

/** `from` the beginning, or what comes from now on. After its line the request goes on as frames of protocol/terminal.ts. */
export const AttachRequestSchema = z.object({ from: z.enum(["start", "now"]) });
export type AttachRequest = z.infer<typeof AttachRequestSchema>;

export const AttachEventSchema = z.discriminatedUnion("event", [
  /** First, and again after each move. `terminal`: whether what is typed goes anywhere. */
  z.object({ event: z.literal("attached"), vm: z.string(), terminal: z.boolean() }),
  ...ExecEventSchema.def.options,
]);
export type AttachEvent = z.infer<typeof AttachEventSchema>;

export const LogEntrySchema = z.object({
  /** RFC 3339, the guest's clock. */
  time: z.string(),
  stream: z.enum(["stdout", "stderr"]),
  text: z.string(),
});
export type LogEntry = z.infer<typeof LogEntrySchema>;
export const LogEventSchema = z.discriminatedUnion("event", [
  z.object({ event: z.literal("line"), entry: LogEntrySchema }),
  streamEnd,
  streamError,
]);
export type LogEvent = z.infer<typeof LogEventSchema>;

export const MigrationStartedSchema = z.object({ id: z.string() });

/** What `migrate --dry-run` prints. `reasons` is every refusal, not only the first; empty means it may go. */
export const MigrationPlanSchema = z.object({
  container: z.string(),
  from: z.nullable(z.string()),
  to: z.string(),
  method: MigrationRequestSchema.shape.method,
  backend: MigrationRequestSchema.shape.backend,
  /** What `auto` would choose now; null for a method without strategies, and when it cannot move. */
  strategy: z.nullable(StrategySchema),
  reasons: z.array(ErrorBodySchema),
  memory_bytes: z.nullable(uint),
  image_bytes: z.nullable(uint),
  steps: z.array(z.string()),
  notes: z.array(z.string()),
});
export type MigrationPlan = z.infer<typeof MigrationPlanSchema>;

export const RecoveryActionSchema = z.object({
  migration: z.string(),
  container: z.string(),
  /** VM on which the container runs now; null when that is not known yet. */
  vm: z.nullable(z.string()),
  outcome: z.enum(["committed", "aborted", "pending"]),
  message: z.string(),
});
export type RecoveryAction = z.infer<typeof RecoveryActionSchema>;
export const RecoveryListSchema = z.object({ actions: z.array(RecoveryActionSchema) });

export const MigrationRecordSchema = z.object({
  id: z.string(),
  request: MigrationRequestSchema,
  /** VM that held the container at the start; null when none was found. */
  from: z.nullable(z.string()),
  startedAt: z.string(),
  /** `interrupted`: the daemon that ran it is gone and left no report; recovery finishes it by the journal. */
  state: z.enum(["running", "done", "interrupted"]),
  phase: z.nullable(PhaseSchema),
  committed: z.boolean(),
  report: z.nullable(MigrationReportSchema),
  /** What recovery made of an interrupted migration. */
  recovery: z.nullable(RecoveryActionSchema),
  events: z.array(MigrationEventSchema),
  /** Directory with the kept logs of this migration, when there is one. */
  logs: z.nullable(z.string()),
});
export type MigrationRecord = z.infer<typeof MigrationRecordSchema>;

export const MigrationSummarySchema = z.omit(MigrationRecordSchema, { events: true });
export type MigrationSummary = z.infer<typeof MigrationSummarySchema>;
export const MigrationListSchema = z.object({ migrations: z.array(MigrationSummarySchema) });

export const MigrationStreamEventSchema = z.discriminatedUnion("event", [
  ...MigrationEventSchema.def.options,
  streamEnd,
  streamError,
]);
export type MigrationStreamEvent = z.infer<typeof MigrationStreamEventSchema>;

/** The mWarp table of a committed warp. */
export const MigrationTableSchema = z.object({ id: z.string(), runs: z.array(TableRunSchema) });
export type MigrationTable = z.infer<typeof MigrationTableSchema>;

/** `cancelling`: it will roll back. `finishing`: past the commit, only forward. `done`: it had ended already. */
export const MigrationCancelSchema = z.object({ state: z.enum(["cancelling", "finishing", "done"]) });
export type MigrationCancel = z.infer<typeof MigrationCancelSchema>;

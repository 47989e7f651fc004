/**
 * The agent protocol: what the host asks of the resident agent in a guest, over one virtio-serial port.
 *
 * Byte stream. On every (re)connect the host sends SYNC followed by a 16-byte nonce, and repeats that until the agent
 * answers with SYNC_ACK and the same nonce; both then speak frames. The agent looks for SYNC at any time, because a
 * host that vanished may have left half a frame in the port; the host drops everything before its own SYNC_ACK.
 * An agent that starts sends SYNC_ACK with a nonce of its own: a host that was talking to its predecessor connects anew.
 * SYNC values are computed (frame.ts), so that no file that travels through the channel contains them.
 *
 * Frame: u32le length of what follows | u8 kind | u32le id | u32le JSON length | JSON | binary payload.
 *
 * Every request has an id and ends with exactly one `response` or `error`. Between, `chunk` frames of the same id carry
 * binary data: up (host to agent) and down (agent to host), each direction closed by `end`. JSON of a chunk is `{}` or
 * names a sub-stream (`{"fd":1}`). The sender of chunks may have at most STREAM_WINDOW_BYTES unacknowledged, where each
 * chunk counts for CHUNK_OVERHEAD_BYTES more than it carries; the receiver grants more with `credit` ({"bytes": n}) when
 * it has consumed them, and ends what goes beyond its window. `cancel` asks the agent to stop a request. A request with
 * the id of one under way is no request. `event` frames (id 0) come from the agent unasked.
 */
import * as z from "zod/mini";
import { fileMethods } from "./agent-files.js";
import { MigrationIdSchema, method } from "./agent-method.js";
import { ConnectionSchema, MOST_CONNECTIONS, PortSchema } from "./connection.js";
import { ContainerSpecSchema, ContainerStateSchema, NameSchema } from "./container.js";
import { GuestInfoSchema } from "./guest-info.js";
import { HeldFileSchema, ImageFileSchema } from "./images.js";
import { LinkPathsSchema, LinksSchema } from "./links.js";
import { StoppedSchema, StopSchema } from "./restart.js";
import { StagedMappingsSchema } from "./stage.js";

export const AGENT_PROTOCOL_VERSION = 14;
export const AGENT_PORT_NAME = "org.mwarp.agent.0";
export const MAX_FRAME_BYTES = 4 * 1024 * 1024;
export const CHUNK_BYTES = 256 * 1024;
export const STREAM_WINDOW_BYTES = 2 * 1024 * 1024;
/** What a waiting chunk takes of its receiver's memory besides its bytes: a window of tiny chunks must not take more. */
export const CHUNK_OVERHEAD_BYTES = 1024;

const uint = z.int().check(z.minimum(0));
const empty = z.object({});

/** A task of the container. `nsPid` is its pid inside the container: the same on both sides, and the id in CRIU's image names. */
export const TaskSchema = z.object({ pid: uint, nsPid: uint });
export type Task = z.infer<typeof TaskSchema>;
/** A task with the guest-physical address of its page-table root (mm->pgd, the kernel half under PTI: complete). */
export const TaskRootSchema = z.object({
  pid: uint,
  nsPid: uint,
  rootGpa: uint,
  /** Kernel virtual address of its task_struct, decimal string. */
  taskAddress: z.string(),
});
export type TaskRoot = z.infer<typeof TaskRootSchema>;

/** A run of pages of one task; `page` is virtual address / 4096. */
export const PageRunSchema = z.object({ nsPid: uint, page: uint, pages: uint });
export type PageRun = z.infer<typeof PageRunSchema>;

/** Which programs runc and CRIU find in their PATH: stock ones, or quick stand-ins before them. */
export const ToolsetSchema = z.enum(["quick", "stock"]);
export type Toolset = z.infer<typeof ToolsetSchema>;

/** What CRIU, and runc, took of a request, ms: as long as runc waited for CRIU, and CRIU for runc. */
const ToolTimesSchema = z.object({
  criuMs: z.number().check(z.minimum(0)),
  runcMs: z.number().check(z.minimum(0)),
});
export type ToolTimes = z.infer<typeof ToolTimesSchema>;

/**
 * What the first descriptors of a container's init are ("/dev/null", "pipe:[4711]"), which runc wants to know of before it starts
 * CRIU; null when runc did not say.
 */
const DescriptorsSchema = z.nullable(z.array(z.string().check(z.maxLength(4096))).check(z.maxLength(64)));

/** A word to write into a restored task before it runs: 16 hex digits, little-endian value, at a virtual address. */
export const PokeSchema = z.object({ nsPid: uint, address: uint, valueHex: z.string() });
export type Poke = z.infer<typeof PokeSchema>;

/** Where CRIU's page server listens on the VMs' network: on the destination for what is dumped, on the source for post-copy. */
export const PageServerSchema = z.object({
  address: z.ipv4(),
  port: z.int().check(z.minimum(1), z.maximum(65535)),
});
export type PageServer = z.infer<typeof PageServerSchema>;

/** Rounds of a pre-copy are numbered from 1; more of them do not help. */
export const MAX_ROUNDS = 16;
const RoundSchema = z.int().check(z.minimum(1), z.maximum(MAX_ROUNDS));

/**
 * Where the pages of a dump go. `none`: nowhere, a warp delivers them. `server`: to the destination's page server, but for those
 * that are as they were in round `after`. `lazy`: they stay, and CRIU serves them from there.
 */
export const PageRouteSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("none") }),
  z.object({ kind: z.literal("server"), server: PageServerSchema, after: z.nullable(RoundSchema) }),
  z.object({ kind: z.literal("lazy") }),
]);
export type PageRoute = z.infer<typeof PageRouteSchema>;

/**
 * What page contents may need on their way through CRIU and the VMs' network, when all else is slow, too. Time limits of both
 * sides grow by it, as they only have to end a hang.
 */
export const SLOWEST_BYTES_PER_MS = 20_000;
/** Bytes of page contents, as an agent counts them; no guest has more memory. Sums of some of them are exact. */
const PageBytesSchema = uint.check(z.maximum(2 ** 46));

/** A stock tool's command line, for people who want to do it by hand. */
const CommandSchema = z.array(z.string().check(z.maxLength(4096))).check(z.maxLength(64));
const CommandsSchema = z.array(CommandSchema).check(z.maxLength(4));

const migration = z.object({ migration: MigrationIdSchema });

const heldOfMigration = z.object({ migration: MigrationIdSchema, files: z.array(HeldFileSchema) });
const imagesOfMigration = z.object({ migration: MigrationIdSchema, files: z.array(ImageFileSchema) });

export const agentMethods = {
  ...fileMethods,
  /** Version check; the first request on every connection. */
  hello: method("none", z.object({ protocol: z.int() }), GuestInfoSchema),
  /** The same facts, read again (free memory changes). */
  info: method("none", empty, GuestInfoSchema),
  /** Runs a command as root in the guest: for operators and tests. Up: stdin. Down: {"fd":1|2}. */
  "guest.exec": method(
    "both",
    z.object({ argv: z.array(z.string()).check(z.minLength(1)) }),
    z.object({ exitCode: z.int() }),
  ),

  "rootfs.has": method("none", z.object({ digest: z.string() }), z.object({ present: z.boolean() })),
  /** Up: a tar archive of the root file system. The agent checks the digest before the layer becomes visible. */
  "rootfs.put": method("up", z.object({ digest: z.string(), bytes: uint }), empty),

  "container.run": method("none", z.object({ spec: ContainerSpecSchema }), z.object({ pid: uint })),
  "container.list": method("none", empty, z.object({ containers: z.array(ContainerStateSchema) })),
  /** Up: stdin. Down: {"fd":1|2}. Cancel kills the process. */
  "container.exec": method(
    "both",
    z.object({
      name: NameSchema,
      argv: z.array(z.string()).check(z.minLength(1)),
      env: z.array(z.string()),
      cwd: z.nullable(z.string()),
    }),
    z.object({ exitCode: z.int() }),
  ),
  /** Down: log lines in the CRI format: RFC 3339 time, stream, F, text. `follow` goes on until cancelled or the container ends. */
  "container.logs": method(
    "down",
    z.object({ name: NameSchema, follow: z.boolean(), tail: z.nullable(uint) }),
    empty,
  ),
  /** Up, and down with {"fd":0}: as protocol/terminal.ts has it. Down: {"fd":1} the log from byte `from` on. No exit code: it has left. */
  "container.attach": method(
    "both",
    z.object({ name: NameSchema, from: z.nullable(uint) }),
    z.object({ exitCode: z.nullable(z.int()) }),
  ),
  /** It is not started again by its policy then. */
  "container.stop": method("none", z.extend(StopSchema, { name: NameSchema }), StoppedSchema),
  /** Starts one that has ended with the files that it has, and counts restarts from 0. One that runs is left as it is. */
  "container.start": method("none", z.object({ name: NameSchema }), z.object({ pid: uint })),
  /**
   * With `id`, only the container whose spec has it: another one of the same name is `MWARP_E_CONTAINER_UNKNOWN`. Its named volumes stay
   * in the VM unless `volumes` says that they go, too.
   */
  "container.remove": method(
    "none",
    z.object({
      name: NameSchema,
      force: z.boolean(),
      id: z.optional(z.string()),
      volumes: z.optional(z.boolean()),
    }),
    empty,
  ),
  // --- source side of a migration, in the order of use ---
  /** A look at what a running container uses and holds. Changes nothing: preflight and dry runs ask it. */
  "source.inspect": method(
    "none",
    z.object({ name: NameSchema }),
    z.object({
      spec: ContainerSpecSchema,
      tasks: z.array(TaskSchema),
      /** Anonymous memory of all tasks, from smaps_rollup. */
      anonymousBytes: uint,
      /** Of those, in 2 MiB pages. */
      hugeBytes: uint,
      /** What the container's cgroup is charged for; its part in swap is not in it. */
      memoryBytes: uint,
      swapBytes: uint,
      /** What of it is shared memory, or in files on tmpfs: CRIU puts it into the images. */
      sharedBytes: uint,
      /** Limit of the container's cgroup; null for none. */
      memoryLimitBytes: z.nullable(uint),
      /** With its named volumes; what holes of files leave out. */
      writableLayerBytes: uint,
      /** Ports with connections that nobody has accepted, which not every kernel takes over. */
      waitingPorts: z.array(PortSchema),
      /** Resources that cannot move, each named: "pid 7 fd 3: io_uring". Empty when all is well. */
      unsupported: z.array(z.string()),
      /** What of it only the library in CRIU brings back, each named: stock tools would lose it. */
      needsLibrary: z.array(z.string()),
    }),
  ),
  /**
   * Before the freeze: image directory on tmpfs with the static parent. With quick tools runc and CRIU are started, too, and wait
   * to be told (native/guest/swrk.c). Changes nothing of the container.
   */
  "source.prepare": method(
    "none",
    z.object({ migration: MigrationIdSchema, name: NameSchema, tools: ToolsetSchema }),
    z.object({ descriptors: DescriptorsSchema }),
  ),
  /**
   * Method precopy: `runc checkpoint --pre-dump` of the running container to the page server of that round. CRIU holds the
   * container for a moment while it takes the pages in; an abort waits for the end of it.
   */
  "source.preDump": method(
    "none",
    z.object({ migration: MigrationIdSchema, round: RoundSchema, server: PageServerSchema }),
    z.object({ command: CommandSchema }),
  ),
  /** What a destination could have ready before the freeze; a look at the running container. */
  "source.stageable": method(
    "none",
    z.object({ name: NameSchema }),
    z.object({ mappings: StagedMappingsSchema }),
  ),
  /** With quick tools: answers when runc and CRIU stand by. `MWARP_E_DUMP` when they never will. */
  "source.standBy": method("none", migration, empty),
  /** Link down, cgroup.freeze=1, waits for `frozen 1`. `MWARP_E_NOT_RUNNING` when the container has ended. */
  "source.freeze": method("none", migration, z.object({ tasks: z.array(TaskSchema) })),
  /**
   * `runc checkpoint` of the frozen container; answers once the post-dump hook is held and the cgroup is frozen again. When the
   * pages go nowhere, clear_refs on the frozen tasks comes first, and the dump is against the static parent.
   * Down: the image files, but for those in `large`, which stay until they are asked for.
   */
  "source.dump": method(
    "down",
    z.object({
      migration: MigrationIdSchema,
      pages: PageRouteSchema,
      tools: ToolsetSchema,
    }),
    z.object({
      files: z.array(ImageFileSchema),
      large: z.array(ImageFileSchema),
      roots: z.array(TaskRootSchema),
      command: CommandSchema,
      spent: z.nullable(ToolTimesSchema),
    }),
  ),
  /** Down: large image files of the dump, in list order. */
  "source.images": method("down", imagesOfMigration, empty),
  /** Keeps large image files of the dump mapped by one process: for the host, which exchanges their frames. They are never read again then. */
  "source.holdImages": method("none", heldOfMigration, z.object({ root: TaskRootSchema })),
  /** Method postcopy: lets CRIU past its post-dump hook, and answers when it serves the pages of the frozen tasks. */
  "source.servePages": method("none", migration, PageServerSchema),
  /** Down: the bytes of the runs, in order, from /proc/PID/mem of the frozen tasks. */
  "source.readPages": method(
    "down",
    z.object({ migration: MigrationIdSchema, runs: z.array(PageRunSchema) }),
    empty,
  ),
  /** Of the links that CRIU has made in the dump, those in the writable layer, each with another name of its file. */
  "source.links": method(
    "none",
    z.object({ migration: MigrationIdSchema, links: LinkPathsSchema }),
    z.object({ links: LinksSchema }),
  ),
  /** After commit: the source container ends for good; idempotent. */
  "source.retire": method("none", migration, empty),
  /** Before commit: CRIU lets go, the container is thawed and its link is up again; idempotent. */
  "source.abort": method("none", migration, empty),

  // --- destination side ---
  /**
   * Before the freeze: bundle, root file system, network namespace with its link down, image directory on tmpfs. With quick tools,
   * and known descriptors, runc and CRIU are started, too, and wait for the images.
   */
  "destination.prepare": method(
    "none",
    z.object({
      migration: MigrationIdSchema,
      spec: ContainerSpecSchema,
      /** Memory that is to be made of 2 MiB pages; 0 when nobody cares. */
      hugeBytes: uint,
      tools: ToolsetSchema,
      descriptors: DescriptorsSchema,
      /** What CRIU is to fault in while it waits (native/criu/handover.h). */
      stage: StagedMappingsSchema,
    }),
    empty,
  ),
  /**
   * Answers when everything that `destination.prepare` was told to stage is there, or cannot be: `reason` says why not, and what is
   * missing is populated later. `MWARP_E_RESTORE` when CRIU has failed.
   */
  "destination.staged": method(
    "none",
    migration,
    z.object({ pages: uint, reason: z.nullable(z.string().check(z.maxLength(4096))) }),
  ),
  /**
   * Starts `criu page-server` for a round, or (null) for the dump of the frozen container. Pages land in a directory of their own
   * on tmpfs, whose parent is that of round `after`; what comes anew is freed there.
   */
  "destination.pageServer": method(
    "none",
    z.object({
      migration: MigrationIdSchema,
      round: z.nullable(RoundSchema),
      after: z.nullable(RoundSchema),
    }),
    z.object({ server: PageServerSchema, command: CommandSchema }),
  ),
  /** Waits for the end of a round's page server; answers with the bytes of page contents that it took in. */
  "destination.received": method(
    "none",
    z.object({ migration: MigrationIdSchema, round: RoundSchema }),
    z.object({ bytes: PageBytesSchema }),
  ),
  /** Up: the image files, in list order. */
  "destination.images": method("up", imagesOfMigration, empty),
  /** Makes image files of that length, every page written to, and keeps them mapped: the host fills them by exchange. */
  "destination.holdImages": method("none", heldOfMigration, z.object({ root: TaskRootSchema })),
  /** Makes those links in the container's root, once the writable layer is there. */
  "destination.links": method("none", z.object({ migration: MigrationIdSchema, links: LinksSchema }), empty),
  /**
   * `runc restore`; answers when the pre-resume hook is held and the container is frozen by its cgroup. With `pagesFrom` its pages
   * come later, through `criu lazy-pages`, from the page server of the source. `tools` is as in the dump: stock ones cannot read the
   * archives of quick ones.
   */
  "destination.restore": method(
    "none",
    z.object({
      migration: MigrationIdSchema,
      pagesFrom: z.nullable(PageServerSchema),
      tools: ToolsetSchema,
    }),
    z.object({
      roots: z.array(TaskRootSchema),
      /** Bytes of page contents in the image directory: what the dump of the frozen container brought over the network. */
      pagesBytes: PageBytesSchema,
      commands: CommandsSchema,
      spent: z.nullable(ToolTimesSchema),
      /** Pages of mappings that got staged memory. */
      handedPages: uint,
    }),
  ),
  /**
   * Method postcopy, just before the commit: `MWARP_E_RESTORE` when what fetches the pages of the held tasks has failed. Only the
   * source has the container then.
   */
  "destination.pagesCome": method("none", migration, empty),
  /** Faults the runs in, by one-byte writes through /proc/PID/mem. Never after anything was exchanged: it would destroy data. */
  "destination.populate": method(
    "none",
    z.object({ migration: MigrationIdSchema, runs: z.array(PageRunSchema) }),
    z.object({ pages: uint }),
  ),
  /** Up: bytes for the runs, written through /proc/PID/mem. Before the exchange only. */
  "destination.writePages": method(
    "up",
    z.object({ migration: MigrationIdSchema, runs: z.array(PageRunSchema) }),
    empty,
  ),
  /** After commit: pokes (u64 words, e.g. rseq_cs), the hook returns, thaw, link up, gratuitous ARP. Idempotent. */
  "destination.resume": method(
    "none",
    z.object({
      migration: MigrationIdSchema,
      pokes: z.array(PokeSchema),
      connections: z.array(ConnectionSchema).check(z.maxLength(MOST_CONNECTIONS)),
    }),
    empty,
  ),
  /**
   * Frees the image directory once runc has ended and, with post-copy, the last page has come. `lost`: pages that the container
   * needs will never come; it was ended before it could read zeros in their place. With `source` gone nobody waits for them.
   */
  "destination.finish": method(
    "none",
    z.object({ migration: MigrationIdSchema, source: z.enum(["there", "gone"]) }),
    z.discriminatedUnion("outcome", [
      z.object({ outcome: z.literal("runs"), pid: uint }),
      z.object({ outcome: z.literal("lost"), reason: z.string() }),
    ]),
  ),
  /** Before commit: everything this migration made in the VM goes; idempotent. */
  "destination.abort": method("none", migration, empty),
} as const;

export type AgentMethods = typeof agentMethods;
export type AgentMethod = keyof AgentMethods;
export type AgentParams<M extends AgentMethod> = z.infer<AgentMethods[M]["params"]>;
export type AgentResult<M extends AgentMethod> = z.infer<AgentMethods[M]["result"]>;

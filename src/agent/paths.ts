/** Every path of the guest that the agent uses. All its state lies in memory, under one mount, and ends with the boot. */
import { dirname, join } from "node:path";

export const ROOT = "/run/mwarp-guest";
/** The C program beside the agent (native/guest). */
export const HELPER = process.env.MWARP_GUEST_HELPER ?? "/usr/local/bin/mwarp-guest";
/** What is preloaded into CRIU (native/criu). */
export const HANDOVER_LIBRARY = join(dirname(HELPER), "libmwarp-handover.so");
export const ACTION_SCRIPT = join(ROOT, "mwarp-action");
export const ACTION_SOCKET = join(ROOT, "action.sock");
export const CRIU_CONF = join(ROOT, "criu.conf");
/** For a CRIU that has somebody between itself and runc. */
export const CRIU_QUICK_CONF = join(ROOT, "criu-quick.conf");
/** Programs that stand before the stock ones, and what CRIU has said of its version. */
export const TOOLS_DIR = join(ROOT, "tools");
export const CRIU_VERSION = join(ROOT, "criu-version");
/** CRIU's own (KERNDAT_CACHE_FILE). */
export const CRIU_KERNEL_CACHE = "/run/criu.kdat";
export const KERNEL_FACTS = join(ROOT, "kernel.json");
export const TCP_TRIAL = join(ROOT, "tcp-trial.json");
export const LOG_FILE = join(ROOT, "agent.log");
export const ROOTFS_DIR = join(ROOT, "rootfs");
export const CONTAINERS_DIR = join(ROOT, "containers");
/** Named volumes that no container has. */
export const VOLUMES_DIR = join(ROOT, "volumes");
export const MIGRATIONS_DIR = join(ROOT, "migrations");
/** Directories on their way into CONTAINERS_DIR or out of it; emptied when an agent starts. */
export const STAGING_DIR = join(ROOT, "staging");

export const rootfsPath = (digest: string): string => join(ROOTFS_DIR, digest);

export interface ContainerPaths {
  readonly dir: string;
  readonly spec: string;
  readonly bundle: string;
  readonly config: string;
  readonly merged: string;
  readonly upper: string;
  readonly work: string;
  /** Of its named volumes, each a directory. */
  readonly volumes: string;
  readonly log: string;
  /** What has come of the log from another VM, until all of it has. */
  readonly comingLog: string;
  readonly pid: string;
  readonly exit: string;
  /** Names the migration that has the container; absent otherwise. */
  readonly held: string;
  /** Names the migration that prepares to move the container, or has just moved it; absent otherwise. */
  readonly moving: string;
  /** How often it was started, and where its restart policy stands (containers/life.ts). */
  readonly life: string;
  /** What its health checks have found (containers/health.ts). */
  readonly health: string;
  /** When it was frozen, by this VM's clock; moves along, so that the other side knows how old the times in those two are. */
  readonly frozenAt: string;
  /** There once the shim has put into the log what it was asked to. */
  readonly flushed: string;
  /** Socket of the shim of a container with a terminal (native/guest/terminal.h). */
  readonly terminal: string;
  /** What was typed at its terminal and is still unread, while the container is on its way. */
  readonly input: string;
  /** Files of the shim's current run. */
  readonly job: string;
  readonly cgroup: string;
  /** Group within that, for a health check and whatever it starts. There while one runs. */
  readonly checkCgroup: string;
  readonly netns: string;
  readonly netnsName: string;
}

export function containerPaths(name: string): ContainerPaths {
  const dir = join(CONTAINERS_DIR, name);
  const bundle = join(dir, "bundle");
  const netnsName = `mw-${name}`;
  return {
    dir,
    spec: join(dir, "spec.json"),
    bundle,
    config: join(bundle, "config.json"),
    merged: join(bundle, "rootfs"),
    upper: join(dir, "upper"),
    work: join(dir, "work"),
    volumes: join(dir, "volumes"),
    log: join(dir, "log"),
    comingLog: join(dir, "log.coming"),
    pid: join(dir, "pid"),
    exit: join(dir, "exit"),
    held: join(dir, "held"),
    moving: join(dir, "moving"),
    life: join(dir, "life.json"),
    health: join(dir, "health.json"),
    frozenAt: join(dir, "frozen-at"),
    flushed: join(dir, "flushed"),
    terminal: join(dir, "terminal"),
    input: join(dir, "input"),
    job: join(dir, "job"),
    cgroup: join("/sys/fs/cgroup", cgroupsPath(name)),
    checkCgroup: join("/sys/fs/cgroup", cgroupsPath(name), CHECK_GROUP),
    netns: join("/run/netns", netnsName),
    netnsName,
  };
}

/** Name of the group that a health check runs in, within the container's. */
export const CHECK_GROUP = "mwarp-check";

/** The container's cgroup, as the OCI configuration names it. */
export const cgroupsPath = (name: string): string => `/mwarp/${name}`;

export interface MigrationPaths {
  readonly dir: string;
  readonly record: string;
  readonly images: string;
  readonly parent: string;
  readonly work: string;
  readonly job: string;
  /** What is to be staged, and what came of it (migration/staging.ts). */
  readonly stage: string;
  readonly stageState: string;
  readonly pageServer: string;
  /** Job of `criu lazy-pages`. */
  readonly lazyPages: string;
  /** Images of a round of a pre-copy. */
  round(round: number): string;
  /** The runtime's record of the restored container. */
  readonly runtimeRecord: string;
  verdict(action: HookAction): string;
}

/** The stages of CRIU at which a migration is held; `begin`: it is started, and has not been told what to do (native/guest/swrk.c). */
export const hookActions = ["begin", "post-dump", "pre-resume"] as const;
export type HookAction = (typeof hookActions)[number];

export function migrationPaths(id: string): MigrationPaths {
  const dir = join(MIGRATIONS_DIR, id);
  return {
    dir,
    record: join(dir, "record.json"),
    images: join(dir, "images"),
    parent: join(dir, "parent"),
    work: join(dir, "work"),
    job: join(dir, "job"),
    stage: join(dir, "stage"),
    stageState: join(dir, "stage.state"),
    pageServer: join(dir, "page-server"),
    lazyPages: join(dir, "lazy-pages"),
    round: (round) => join(dir, `round-${round}`),
    runtimeRecord: join(dir, "runtime-record.json"),
    verdict: (action) => join(dir, `verdict.${action}`),
  };
}

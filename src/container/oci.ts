/** OCI runtime configurations (config.json) for containers that can move: made for a command, or adapted from a bundle. */
import { constants } from "node:os";
import { MwarpError } from "../errors.js";
import type { Volume } from "../protocol/container.js";
import type { Window } from "../protocol/terminal.js";
import { type BundleConfig, parseBundle } from "./bundle-schema.js";
import type { ImageProcess } from "./image/config.js";
import { isBind, unmovable } from "./movable.js";

export interface OciInput {
  /** Command and arguments, at least the command. */
  readonly argv: readonly string[];
  /** `NAME=value`; PATH has a default. */
  readonly env: readonly string[];
  readonly cwd: string;
  readonly hostname: string;
  /** Limit of the container's memory cgroup; null for none. */
  readonly memoryLimitBytes: number | null;
  /** Of a pty with that size; null for pipes. */
  readonly terminal: Window | null;
  /** Root when left out. */
  readonly user?: ImageProcess["user"];
  readonly annotations?: Readonly<Record<string, string>>;
}

/** An OCI configuration as plain data; the agent puts in root.path and the path of the network namespace. */
export type OciConfig = Record<string, unknown>;

const OCI_VERSION = "1.0.2";
export const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const MAX_OPEN_FILES = 65_536;

/** What container engines commonly grant by default. */
const capabilities = [
  "AUDIT_WRITE",
  "CHOWN",
  "DAC_OVERRIDE",
  "FOWNER",
  "FSETID",
  "KILL",
  "MKNOD",
  "NET_BIND_SERVICE",
  "NET_RAW",
  "SETFCAP",
  "SETGID",
  "SETPCAP",
  "SETUID",
  "SYS_CHROOT",
].map((name) => `CAP_${name}`);

const mount = (destination: string, type: string, options: string[], source = type) => ({
  destination,
  type,
  source,
  options,
});

/** Few: CRIU packs each tmpfs with tar while the container is frozen. */
const mounts = [
  mount("/proc", "proc", []),
  mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
  mount("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
  mount("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"], "shm"),
  mount("/dev/mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
  mount("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
  mount("/sys/fs/cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"]),
];

/** Files only: runc masks a directory with a tmpfs of its own. */
const maskedPaths = [
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/timer_list",
  "/proc/sched_debug",
];
const readonlyPaths = [
  "/proc/acpi",
  "/proc/bus",
  "/proc/fs",
  "/proc/irq",
  "/proc/scsi",
  "/proc/sys",
  "/proc/sysrq-trigger",
];

/**
 * No rings of io_uring, which nothing can carry to another kernel, and of which libuv makes one for each of its loops unasked (from 1.49 on
 * whatever UV_USE_IO_URING says). Container engines forbid them, too; programs do without. Every architecture that x86 has: a
 * filter ends programs of those that it does not name.
 */
const seccomp = {
  defaultAction: "SCMP_ACT_ALLOW",
  architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
  syscalls: [
    {
      names: ["io_uring_setup", "io_uring_enter", "io_uring_register"],
      action: "SCMP_ACT_ERRNO",
      errnoRet: constants.errno.EPERM,
    },
  ],
};

const hasPath = (env: readonly string[]): boolean => env.some((entry) => entry.startsWith("PATH="));
const memoryLimit = (limit: number) => ({ memory: { limit } });

/** What goes into `process` for a pty; programs on one want to know its kind. */
const terminalOf = (window: Window | null) =>
  window === null
    ? { terminal: false }
    : { terminal: true, consoleSize: { height: window.rows, width: window.columns } };
const TERM = "TERM=xterm";
const withKind = (env: readonly string[]): string[] =>
  env.some((entry) => entry.startsWith("TERM=")) ? [...env] : [...env, TERM];

/** A configuration with common defaults: root writable, namespaces of its own for all but users and time. */
export function makeOciConfig(input: OciInput): OciConfig {
  const env = input.terminal === null ? input.env : withKind(input.env);
  return {
    ociVersion: OCI_VERSION,
    process: {
      ...terminalOf(input.terminal),
      user: input.user ?? { uid: 0, gid: 0 },
      args: [...input.argv],
      env: hasPath(env) ? [...env] : [`PATH=${DEFAULT_PATH}`, ...env],
      cwd: input.cwd,
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      rlimits: [{ type: "RLIMIT_NOFILE", hard: MAX_OPEN_FILES, soft: MAX_OPEN_FILES }],
      noNewPrivileges: true,
    },
    root: { path: "rootfs", readonly: false },
    hostname: input.hostname,
    ...(input.annotations === undefined ? {} : { annotations: input.annotations }),
    mounts,
    linux: {
      resources: {
        devices: [{ allow: false, access: "rwm" }],
        ...(input.memoryLimitBytes === null ? {} : memoryLimit(input.memoryLimitBytes)),
      },
      namespaces: ["pid", "network", "ipc", "uts", "mount", "cgroup"].map((type) => ({ type })),
      maskedPaths,
      readonlyPaths,
      seccomp,
    },
  };
}

const CHANGE = "Change the named settings in config.json.";
const howToBind = ({ source, destination }: { source?: string | undefined; destination: string }): string =>
  `What is bound at ${destination} may move with the container (--volume NAME:${destination}), or be a directory that all VMs have ` +
  `(--volume ${source ?? "/path"}:${destination}:shared).`;

/** What may be set on top of a bundle; null and [] leave its own. */
export interface BundleOverrides {
  readonly argv: readonly string[] | null;
  readonly env: readonly string[];
  readonly cwd: string | null;
  readonly hostname: string;
  readonly memoryLimitBytes: number | null;
  readonly terminal: Window | null;
  /** Each takes the place of a mount that the bundle has there. */
  readonly volumes?: readonly Volume[];
}

/**
 * A bundle's configuration made ready to run and move; what mWarp does not use is kept as it is.
 * @throws MWARP_E_USAGE when it is no OCI configuration; MWARP_E_UNSUPPORTED, every reason in `details`, when it asks
 * for what cannot move.
 */
export function adaptBundle(config: unknown, overrides: BundleOverrides): OciConfig {
  const parsed = parseBundle(config);
  const places = new Set((overrides.volumes ?? []).map(({ destination }) => destination));
  const mounts = parsed.mounts?.filter(({ destination }) => !places.has(destination));
  const bundle = mounts === undefined ? parsed : { ...parsed, mounts };
  const reasons = unmovable(bundle);
  if (reasons.length > 0) {
    const bind = mounts?.find(isBind);
    throw new MwarpError("MWARP_E_UNSUPPORTED", `the bundle cannot move: ${reasons.join("; ")}`, {
      hint: bind === undefined ? CHANGE : `${CHANGE} ${howToBind(bind)}`,
      details: reasons,
    });
  }
  const { cgroupsPath: _given, ...linux } = bundle.linux;
  return {
    ...bundle,
    process: adaptProcess(bundle.process, overrides),
    root: { ...bundle.root, path: "rootfs" },
    hostname: overrides.hostname,
    linux: { ...linux, resources: adaptResources(linux.resources, overrides.memoryLimitBytes) },
  };
}

function adaptProcess(process: BundleConfig["process"], overrides: BundleOverrides): OciConfig {
  const { terminal } = overrides;
  const { consoleSize, ...kept } = process;
  const env = [...(process.env ?? []), ...overrides.env];
  const own =
    process.terminal === true
      ? { terminal: true, ...(consoleSize === undefined ? {} : { consoleSize }) }
      : terminalOf(null);
  return {
    ...kept,
    ...(terminal === null ? own : terminalOf(terminal)),
    args: overrides.argv === null ? process.args : [...overrides.argv],
    env: terminal === null ? env : withKind(env),
    cwd: overrides.cwd ?? process.cwd,
  };
}

function adaptResources(resources: Record<string, unknown> | undefined, limit: number | null): OciConfig {
  if (limit === null) return resources ?? {};
  return { ...resources, ...memoryLimit(limit) };
}

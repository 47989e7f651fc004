/** What a container is to mWarp: the record every part shares. It lies beside the bundle in the guest and moves with the container. */
import * as z from "zod/mini";
import { HealthCheckSchema, HealthStateSchema } from "./health.js";
import { NO_RESTART, RestartPolicySchema, RestartStateSchema } from "./restart.js";

/** Container and VM names: they become path parts, host names and cgroup names. */
export const NameSchema = z.string().check(z.regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/));

/** An IPv6 address on the bridge, as `canonicalIpv6` writes it. */
const Ipv6Schema = z.object({
  address: z.ipv6(),
  prefixLength: z.int().check(z.minimum(1), z.maximum(128)),
});
export type Ipv6Identity = z.infer<typeof Ipv6Schema>;

/** The container's addresses and its MAC, which move with it. */
export const NetworkIdentitySchema = z.object({
  mac: z.string().check(z.regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/)),
  ipv4: z.string().check(z.regex(/^\d{1,3}(\.\d{1,3}){3}$/)),
  prefixLength: z.int().check(z.minimum(1), z.maximum(32)),
  gateway: z.nullable(z.string()),
  /** Null for a container without; records of older versions have none. */
  ipv6: z._default(z.nullable(Ipv6Schema), null),
});
export type NetworkIdentity = z.infer<typeof NetworkIdentitySchema>;

/** Where a volume is in the container; see `placeProblem`. */
const PlaceSchema = z.string().check(z.regex(/^\/[^\0]*$/), z.maxLength(1024));
const volume = { destination: PlaceSchema, readOnly: z.boolean() };

/**
 * A directory that is mounted in a container. `named`: kept by the agent, one container's at a time; it moves with the container.
 * `shared`: a directory of the VM that every VM has which the container comes to, mounted from the same storage; nothing of it is moved.
 */
export const VolumeSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("named"), name: NameSchema, ...volume }),
  z.object({
    kind: z.literal("shared"),
    directory: PlaceSchema,
    ...volume,
  }),
]);
export type Volume = z.infer<typeof VolumeSchema>;
export type NamedVolume = Extract<Volume, { kind: "named" }>;
export type SharedVolume = Extract<Volume, { kind: "shared" }>;

/** Why a volume cannot be at a path in a container, as a phrase; null when it can. The runtime keeps /proc, /sys and /dev for itself. */
export function placeProblem(path: string): string | null {
  if (!/^(\/[^/]+)+$/.test(path) || /\/\.{1,2}(\/|$)/.test(path))
    return "is no absolute path other than /, without . and ..";
  return /^\/(proc|sys|dev)(\/|$)/.test(path) ? "is in /proc, /sys or /dev" : null;
}

export const namedVolumes = (volumes: readonly Volume[] = []): NamedVolume[] =>
  volumes.filter((volume) => volume.kind === "named");
export const sharedVolumes = (volumes: readonly Volume[] = []): SharedVolume[] =>
  volumes.filter((volume) => volume.kind === "shared");

/** OCI runtimes that mWarp drives. */
export const runtimeNames = ["runc", "crun"] as const;
export const RuntimeNameSchema = z.enum(runtimeNames);
export type RuntimeName = z.infer<typeof RuntimeNameSchema>;

export const ContainerSpecSchema = z.object({
  name: NameSchema,
  /** Made once at `run`; stays the same on every VM the container visits (32 hex digits). */
  id: z.string().check(z.regex(/^[0-9a-f]{32}$/)),
  /** sha256 of the root file system archive: the read-only lower layer, present on each VM that holds the container. */
  rootfs: z.string().check(z.regex(/^[0-9a-f]{64}$/)),
  network: NetworkIdentitySchema,
  hostname: z.string(),
  /** Which OCI runtime has it; records of older versions name none. */
  runtime: z._default(RuntimeNameSchema, "runc"),
  /** The OCI runtime configuration (config.json), made by the host; the agent fills in root and namespace paths only. */
  oci: z.record(z.string(), z.unknown()),
  volumes: z.optional(z.array(VolumeSchema)),
  /** ISO 8601. */
  createdAt: z.string(),
  /** Records of older versions have neither of these. */
  restart: z._default(RestartPolicySchema, NO_RESTART),
  health: z._default(z.nullable(HealthCheckSchema), null),
});
export type ContainerSpec = z.infer<typeof ContainerSpecSchema>;

/** Whether its first process has a terminal. */
export function hasTerminal({ oci: { process } }: Pick<ContainerSpec, "oci">): boolean {
  return (
    typeof process === "object" && process !== null && "terminal" in process && process.terminal === true
  );
}

export const ContainerStatusSchema = z.enum(["created", "running", "paused", "restarting", "stopped"]);
export type ContainerStatus = z.infer<typeof ContainerStatusSchema>;

/** A named volume in a VM. */
export const VolumeStateSchema = z.object({
  name: NameSchema,
  /** The container that has it; null when none does. */
  container: z.nullable(z.string()),
  bytes: z.int(),
});
export type VolumeState = z.infer<typeof VolumeStateSchema>;

/**
 * One container as the agent of its VM sees it. `held` names the migration that has it frozen, or null. `restarting`: it has ended,
 * and is going to be started again.
 */
export const ContainerStateSchema = z.object({
  spec: ContainerSpecSchema,
  status: ContainerStatusSchema,
  /** Init's pid in the guest; null when stopped. */
  pid: z.nullable(z.int()),
  /** memory.current of the container's cgroup, bytes. */
  memoryBytes: z.int(),
  /** Exit code of init once stopped, when known. */
  exitCode: z.nullable(z.int()),
  /** It has ended, and the kernel has killed a process of it for want of memory in this VM. */
  outOfMemory: z.boolean(),
  held: z.nullable(z.string()),
  restart: RestartStateSchema,
  /** Null for a container without a health check. */
  health: z.nullable(HealthStateSchema),
});
export type ContainerState = z.infer<typeof ContainerStateSchema>;

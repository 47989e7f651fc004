/** What a container is to mWarp: the record every part shares. It lies beside the bundle in the guest and moves with the container. */
import * as z from "zod/mini";

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

export const ContainerSpecSchema = z.object({
  name: NameSchema,
  /** Made once at `run`; stays the same on every VM the container visits (32 hex digits). */
  id: z.string().check(z.regex(/^[0-9a-f]{32}$/)),
  /** sha256 of the root file system archive: the read-only lower layer, present on each VM that holds the container. */
  rootfs: z.string().check(z.regex(/^[0-9a-f]{64}$/)),
  network: NetworkIdentitySchema,
  hostname: z.string(),
  /** The OCI runtime configuration (config.json), made by the host; the agent fills in root and namespace paths only. */
  oci: z.record(z.string(), z.unknown()),
  /** ISO 8601. */
  createdAt: z.string(),
});
export type ContainerSpec = z.infer<typeof ContainerSpecSchema>;

export const ContainerStatusSchema = z.enum(["created", "running", "paused", "stopped"]);
export type ContainerStatus = z.infer<typeof ContainerStatusSchema>;

/** One container as the agent of its VM sees it. `held` names the migration that has it frozen, or null. */
export const ContainerStateSchema = z.object({
  spec: ContainerSpecSchema,
  status: ContainerStatusSchema,
  /** Init's pid in the guest; null when stopped. */
  pid: z.nullable(z.int()),
  /** memory.current of the container's cgroup, bytes. */
  memoryBytes: z.int(),
  /** Exit code of init once stopped, when known. */
  exitCode: z.nullable(z.int()),
  held: z.nullable(z.string()),
});
export type ContainerState = z.infer<typeof ContainerStateSchema>;

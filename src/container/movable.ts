/** What in an OCI configuration ties a container to the VM it starts in. */
import type { BundleConfig } from "./bundle-schema.js";

type Mount = NonNullable<BundleConfig["mounts"]>[number];

const required = { pid: "process ids", network: "network", ipc: "IPC", uts: "host name", mount: "mounts" };
const movableNamespaces = new Set([...Object.keys(required), "cgroup"]);
const movableMounts = new Set(["proc", "tmpfs", "devpts", "mqueue", "sysfs", "cgroup", "cgroup2"]);
/** Devices every OCI runtime makes by itself. */
const usualDevices = new Set(
  ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"].map((name) => `/dev/${name}`),
);

/**
 * CRIU dumps no container with namespaces of another user namespace (criu/namespaces.c, check_user_ns: "One or more namespaces doesn't
 * belong to the target user namespace"), and the network namespace is made before the container, in the VM's. One of the container's own
 * CRIU would have to restore with all that is in it.
 */
const USER_NAMESPACE =
  "linux.namespaces has user: the container's network belongs to the VM's user namespace, and CRIU takes only both or neither";

/** Each reason why a container of this bundle could not move, as a phrase; empty when it can. */
export function unmovable(bundle: BundleConfig): string[] {
  const { linux } = bundle;
  return [
    ...namespaceReasons(linux.namespaces ?? []),
    ...(bundle.mounts ?? []).flatMap(mountReason),
    ...(linux.devices ?? [])
      .filter(({ path }) => !usualDevices.has(path))
      .map(({ path }) => `linux.devices has ${path}: devices cannot follow`),
    ...Object.entries(bundle.hooks ?? {})
      .filter(([, hooks]) => hooks.length > 0)
      .map(([name]) => `hooks.${name} runs programs of the VM`),
  ];
}

function namespaceReasons(namespaces: readonly { type: string; path?: string | undefined }[]): string[] {
  const present = new Set(namespaces.map(({ type }) => type));
  const shared = Object.entries(required)
    .filter(([type]) => !present.has(type))
    .map(([type, what]) => `linux.namespaces has no ${type}: it would share the VM's ${what}`);
  const others = namespaces.flatMap(({ type, path }) => {
    if (type === "user") return [USER_NAMESPACE];
    if (!movableNamespaces.has(type)) return [`linux.namespaces has ${type}, which is not supported`];
    return path === undefined || path === "" ? [] : [`linux.namespaces joins ${path} (${type})`];
  });
  return [...shared, ...others];
}

export const isBind = ({ type, options = [] }: Mount): boolean =>
  type === "bind" || options.includes("bind") || options.includes("rbind");

function mountReason(mount: Mount): string[] {
  const { destination, type, source } = mount;
  if (isBind(mount)) return [`mounts binds ${source ?? "?"} of the VM to ${destination}`];
  if (type !== undefined && movableMounts.has(type)) return [];
  return [`mounts has type ${type ?? "none"} at ${destination}`];
}

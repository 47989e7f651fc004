/** Mounts of a container that nobody can make on the other side, each by its mount point. */
import type { Task } from "../../protocol/agent.js";
import type { ContainerSpec } from "../../protocol/container.js";
import { readIfThere } from "../files.js";

/** File systems that CRIU makes anew, with what is in them where it is the container's own (criu/filesystems.c). */
const movable: ReadonlySet<string> = new Set(
  "proc sysfs devtmpfs binfmt_misc tmpfs devpts pstore mqueue securityfs fusectl debugfs tracefs autofs cgroup cgroup2 overlay".split(
    " ",
  ),
);

/** Mount points are text in which a space is \040 and the like. */
const decoded = (text: string): string =>
  text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/**
 * As "mount at /x: nfs4".
 * @param mountinfo of a task of the container (proc_pid_mountinfo(5))
 * @param volumes are on the other side, too, or come along
 */
export function judgeMounts(mountinfo: string, { volumes = [] }: Pick<ContainerSpec, "volumes">): string[] {
  const places = new Set(volumes.map(({ destination }) => destination));
  return [...mountinfo.matchAll(/^\d+ \d+ \S+ \S+ (\S+) .*? - (\S+) /gm)]
    .map(([, point = "", type = ""]) => ({ point: decoded(point), type }))
    .filter(({ point, type }) => !movable.has(type) && !places.has(point))
    .map(({ point, type }) => `mount at ${point}: ${type}`);
}

/** Of the first process; what others have in mount namespaces of their own is CRIU's to find. */
export async function mountReasons(tasks: readonly Task[], spec: ContainerSpec): Promise<string[]> {
  const init = tasks.find(({ nsPid }) => nsPid === 1);
  return init === undefined
    ? []
    : judgeMounts((await readIfThere(`/proc/${init.pid}/mountinfo`)) ?? "", spec);
}

/** Open files that CRIU cannot dump, each named: too large without a name, or with another mount over their name. */
import { readFileSync, statSync } from "node:fs";
import { GHOST_LIMIT_BYTES } from "../criu-conf.js";
import { isMissing, readIfThere } from "../files.js";

const DELETED = " (deleted)";
const BLOCK_BYTES = 512;
const MIB = 1024 * 1024;

export interface Mount {
  readonly id: number;
  readonly point: string;
}

/** Lines of /proc/PID/mountinfo, the later over the earlier. */
export function parseMounts(mountinfo: string): Mount[] {
  return [...mountinfo.matchAll(/^(\d+) \S+ \S+ \S+ (\S+) /gm)].map(([, id, point = ""]) => ({
    id: Number(id),
    point: point.replaceAll(/\\([0-7]{3})/g, (_, octal: string) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    ),
  }));
}

export async function mountsOf(pid: number): Promise<Mount[]> {
  return parseMounts((await readIfThere(`/proc/${pid}/mountinfo`)) ?? "");
}

const isBelow = (path: string, point: string): boolean =>
  point === "/" || path === point || path.startsWith(`${point}/`);

/** The mount point under which a path is found, when that is not of the mount which the file is on; null where its name leads to it. */
export function hiddenBy(path: string, mountId: number, mounts: readonly Mount[]): string | null {
  const own = mounts.findIndex(({ id }) => id === mountId);
  // One that is on a mount of another namespace is CRIU's to find.
  if (own < 0) return null;
  const over = mounts.slice(own + 1).findLast(({ point }) => isBelow(path, point));
  return over !== undefined && isBelow(over.point, mounts[own]!.point) ? over.point : null;
}

/** What is wrong with one descriptor, or null. Reads no more than its link target makes necessary. */
export function judgeOpenFile(
  directory: string,
  fd: string,
  target: string,
  mounts: readonly Mount[],
): string | null {
  if (!target.startsWith("/")) return null;
  try {
    if (target.endsWith(DELETED)) return judgeSize(statSync(`${directory}/fd/${fd}`));
    // Nearly all files are below no mount but the root, or in /dev, /proc and /sys, which nobody covers.
    if (/^\/(dev|proc|sys)(\/|$)/.test(target)) return null;
    if (!mounts.some(({ point }) => point !== "/" && isBelow(target, point))) return null;
    const mountId = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`${directory}/fdinfo/${fd}`, "utf8"))?.[1];
    const point = hiddenBy(target, Number(mountId), mounts);
    return point === null ? null : `${target}, which the mount at ${point} hides`;
  } catch (error) {
    // Closed meanwhile: it is not in use.
    if (isMissing(error)) return null;
    throw error;
  }
}

/** CRIU counts what the file takes on its disk (criu/files-reg.c, dump_ghost_file). */
function judgeSize(stat: { isFile(): boolean; nlink: number; blocks: number }): string | null {
  const bytes = stat.blocks * BLOCK_BYTES;
  if (!stat.isFile() || stat.nlink > 0 || bytes <= GHOST_LIMIT_BYTES) return null;
  return `a removed file of ${Math.ceil(bytes / MIB)} MiB, more than the ${GHOST_LIMIT_BYTES / MIB} MiB that can move`;
}

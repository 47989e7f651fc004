/** What a container does with files of a directory that VMs share, and could not go on with in the other VM. */
import { readdir } from "node:fs/promises";
import type { Task } from "../../protocol/agent.js";
import { type ContainerSpec, sharedVolumes } from "../../protocol/container.js";
import { readIfThere } from "../files.js";
import { mustRun } from "../process.js";
import { linkTarget } from "./unsupported.js";

const WRITE_OUT_MS = 20_000;

/** What NFS makes of a file that is deleted while it is open (fs/nfs/unlink.c). It is deleted in the end by the VM that made it. */
const SILLY_NAME = /\/\.nfs[0-9a-f]{16,}$/;

/**
 * Why an open file of a shared directory cannot follow, or null when it can.
 * @param target where its link in /proc/PID/fd leads
 * @param info what /proc/PID/fdinfo says of it
 */
export function judgeSharedFile(target: string, info: string): string | null {
  if (target.endsWith(" (deleted)") || SILLY_NAME.test(target))
    return `${target} was deleted while it is open, which the other VM would not see`;
  // The source holds it until the container runs on the destination, which could not get it.
  if (/^lock:\s/m.test(info)) return `${target} is locked, and a lock cannot be handed over`;
  return null;
}

/**
 * What this VM has not written out yet is not there for the other one. Done in both passes over the files, so that there is little left to
 * write when the container stands still. In a process of its own: storage that hangs must hang nothing else.
 * @throws MWARP_E_TIMEOUT, MWARP_E_RUNTIME naming the directory
 */
export async function writeOutShared({ volumes }: Pick<ContainerSpec, "volumes">): Promise<void> {
  for (const { directory } of sharedVolumes(volumes))
    await mustRun(["sync", "-f", directory], { timeoutMs: WRITE_OUT_MS });
}

/** As "pid 7 fd 3: ...", pids as they are inside the container. */
export async function sharedFileReasons(
  tasks: readonly Task[],
  { volumes }: Pick<ContainerSpec, "volumes">,
): Promise<string[]> {
  const places = sharedVolumes(volumes).map(({ destination }) => destination);
  if (places.length === 0) return [];
  const found: string[] = [];
  for (const { pid, nsPid } of tasks)
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      const target = linkTarget(`/proc/${pid}/fd/${fd}`);
      if (!places.some((place) => target.startsWith(`${place}/`))) continue;
      const reason = judgeSharedFile(target, (await readIfThere(`/proc/${pid}/fdinfo/${fd}`)) ?? "");
      if (reason !== null) found.push(`pid ${nsPid} fd ${fd}: ${reason}`);
    }
  return found;
}

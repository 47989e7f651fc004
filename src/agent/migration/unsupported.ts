/** What a container uses that cannot be moved, each named. A look through /proc; the container runs on. */
import { readdir, readlink } from "node:fs/promises";
import type { Task } from "../../protocol/agent.js";
import { readIfThere } from "../files.js";

/** Link targets of descriptors, by how they begin, and how the report calls them. */
const descriptors: readonly (readonly [prefix: string, name: string])[] = [
  ["anon_inode:[io_uring]", "io_uring"],
  ["anon_inode:[userfaultfd]", "userfaultfd"],
  ["anon_inode:[perf_event]", "perf_event"],
  ["anon_inode:kvm-", "KVM"],
  ["anon_inode:bpf", "BPF object"],
  ["anon_inode:[bpf", "BPF object"],
  ["anon_inode:[landlock-ruleset]", "Landlock rules"],
  ["anon_inode:[fanotify]", "fanotify"],
  ["anon_inode:seccomp notify", "seccomp notifier"],
  ["anon_inode:[iommufd]", "iommufd"],
  ["anon_inode:[vfio", "VFIO"],
  ["/secretmem", "memfd_secret"],
];
const movableDevices = /^\/dev\/(null|zero|full|random|urandom|tty|ptmx|pts\/.*|shm\/.*|mqueue\/.*)$/;

/** The name of a resource that cannot move, or null for one that can. */
export function judgeDescriptor(target: string): string | null {
  const known = descriptors.find(([prefix]) => target.startsWith(prefix));
  if (known) return known[1];
  if (target.startsWith("/dev/") && !movableDevices.test(target)) return `device ${target}`;
  return null;
}

/** The same for a mapping, by its name in /proc/PID/maps. */
export function judgeMapping(name: string): string | null {
  if (name.startsWith("/anon_hugepage") || name.includes("/hugepages/")) return "hugetlb memory";
  if (name.startsWith("/secretmem")) return "memfd_secret";
  if (name.startsWith("anon_inode:[io_uring]")) return "io_uring";
  if (name.startsWith("anon_inode:[perf_event]")) return "perf_event";
  if (name.startsWith("/dev/") && !name.startsWith("/dev/zero") && !name.startsWith("/dev/shm/")) {
    return `device mapping ${name}`;
  }
  return null;
}

async function descriptorsOf(pid: number): Promise<string[]> {
  const dir = `/proc/${pid}/fd`;
  const found: string[] = [];
  const names = await readdir(dir).catch(() => []);
  for (const fd of names) {
    // Closed meanwhile: not in use.
    const target = await readlink(`${dir}/${fd}`).catch(() => "");
    const name = judgeDescriptor(target);
    if (name) found.push(`fd ${fd}: ${name}`);
  }
  return found;
}

async function mappingsOf(pid: number): Promise<string[]> {
  const maps = (await readIfThere(`/proc/${pid}/maps`)) ?? "";
  const found = new Set<string>();
  for (const line of maps.split("\n")) {
    const name = line.split(/\s+/).slice(5).join(" ");
    const judged = judgeMapping(name);
    if (judged) found.add(`memory at ${line.split("-")[0]}: ${judged}`);
  }
  return [...found];
}

/** True for a process whose parent is outside the container: started by `exec`, its parent cannot be restored. */
async function isExecSession({ pid, nsPid }: Task): Promise<boolean> {
  if (nsPid === 1) return false;
  const stat = (await readIfThere(`/proc/${pid}/stat`)) ?? "";
  const parent = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1];
  const [own, parents] = await Promise.all([
    readIfThere(`/proc/${pid}/cgroup`),
    readIfThere(`/proc/${parent}/cgroup`),
  ]);
  // Either may have ended since it was listed.
  return own !== null && parents !== null && own !== parents;
}

/** All that cannot move, as "pid 7 fd 3: io_uring"; pids are those inside the container. */
export async function findUnsupported(tasks: readonly Task[]): Promise<string[]> {
  const found: string[] = [];
  for (const task of tasks) {
    if (await isExecSession(task)) found.push(`pid ${task.nsPid}: a running exec session`);
    for (const item of [...(await descriptorsOf(task.pid)), ...(await mappingsOf(task.pid))]) {
      found.push(`pid ${task.nsPid} ${item}`);
    }
  }
  return found;
}

/** What a container uses that cannot be moved, each named. A look through /proc; the container runs on. */
import { readlinkSync } from "node:fs";
import { readdir, readlink } from "node:fs/promises";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Task } from "../../protocol/agent.js";
import type { ContainerSpec } from "../../protocol/container.js";
import { readIfThere } from "../files.js";
import type { Helper } from "../helper.js";
import { judgeOpenFile, mountsOf } from "./open-files.js";
import { type SocketHolders, socketFaults } from "./socket-faults.js";
import { settingsOf } from "./task-settings.js";
import { terminalFaults } from "./terminals.js";

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
/**
 * Links of descriptors that are read between two turns of the event loop. By the thread pool each would take many times as long
 * as the kernel needs for it, and a container may have thousands.
 */
const LINKS_PER_TURN = 64;
const movableDevices = /^\/dev\/(null|zero|full|random|urandom|tty|ptmx|pts\/.*|shm\/.*|mqueue\/.*)$/;

/** Names of struct proto of the sockets that CRIU takes along (criu/sk-inet.c, can_dump_ipproto; criu/sockets.c). */
const movableSockets: ReadonlySet<string> = new Set(
  "TCP TCPv6 UDP UDPv6 UDP-Lite UDPLITEv6 RAW RAWv6 UNIX UNIX-STREAM NETLINK PACKET".split(" "),
);

/** Namespaces of which CRIU takes one for a whole container; it nests mount and network namespaces (CLONE_SUBNS). */
const sharedNamespaces = {
  pid: "a PID",
  user: "a user",
  ipc: "an IPC",
  uts: "a UTS",
  cgroup: "a cgroup",
  time: "a time",
  time_for_children: "a time",
} as const;

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
  // What is in flight when the container is frozen would report to a ring that is gone: CRIU does not wait for it
  // (criu/pie/parasite.c, parasite_check_aios).
  if (name.startsWith("/[aio]")) return "asynchronous I/O (io_setup)";
  if (name.startsWith("/dev/") && !name.startsWith("/dev/zero") && !name.startsWith("/dev/shm/")) {
    return `device mapping ${name}`;
  }
  return null;
}

/** Sockets that cannot move, from the helper's lines "FD PROTOCOL" and "FD !FAULT". */
export function judgeSockets(lines: string): string[] {
  return [...lines.matchAll(/^(\d+) (.*)$/gm)].flatMap(([, fd, protocol = ""]) => {
    if (protocol.startsWith("!")) return [`fd ${fd}: ${protocol.slice(1)}`];
    if (movableSockets.has(protocol)) return [];
    const advice = protocol === "MPTCP" ? " (Go programs: GODEBUG=multipathtcp=0)" : "";
    return [`fd ${fd}: ${protocol || "unknown"} socket${advice}`];
  });
}

async function namespacesOf(pid: number): Promise<Map<string, string>> {
  const links = Object.keys(sharedNamespaces).map(async (name): Promise<[string, string]> => {
    // Ended meanwhile, or a kernel without this kind.
    return [name, await readlink(`/proc/${pid}/ns/${name}`).catch(() => "")];
  });
  return new Map(await Promise.all(links));
}

/** Namespaces of a task other than those of the container's first process. */
async function ownNamespaces(pid: number, first: ReadonlyMap<string, string>): Promise<string[]> {
  const own = await namespacesOf(pid);
  const kinds = Object.entries(sharedNamespaces).filter(
    ([name]) => own.get(name) !== "" && own.get(name) !== first.get(name),
  );
  return [...new Set(kinds.map(([, kind]) => `${kind} namespace of its own`))];
}

/** What cannot move, and the inode of each socket with its descriptor. */
async function descriptorsOf(pid: number): Promise<{ found: string[]; sockets: Map<number, string> }> {
  const dir = `/proc/${pid}/fd`;
  const found: string[] = [];
  const mounts = await mountsOf(pid);
  const sockets = new Map<number, string>();
  const names = await readdir(dir).catch(() => []);
  for (const [index, fd] of names.entries()) {
    if (index % LINKS_PER_TURN === LINKS_PER_TURN - 1) await nextTurn();
    const target = linkTarget(`${dir}/${fd}`);
    const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
    if (inode !== undefined) sockets.set(Number(inode), fd);
    const name = judgeDescriptor(target) ?? judgeOpenFile(`/proc/${pid}`, fd, target, mounts);
    if (name) found.push(`fd ${fd}: ${name}`);
  }
  return { found, sockets };
}

/** Empty for a descriptor that was closed meanwhile: it is not in use. */
export function linkTarget(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    return "";
  }
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

/** Who traces a thread of the process, by that one's pid in this VM: CRIU itself must trace it to dump it. */
async function tracersOf(pid: number): Promise<string[]> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  const texts = await Promise.all(threads.map((tid) => readIfThere(`/proc/${pid}/task/${tid}/status`)));
  const tracers = texts.map((text) => /^TracerPid:\s*(\d+)$/m.exec(text ?? "")?.[1]);
  return [...new Set(tracers)].flatMap((tracer) =>
    tracer === undefined || tracer === "0" ? [] : [`traced by process ${tracer} of the VM`],
  );
}

/**
 * All that cannot move, as "pid 7 fd 3: io_uring"; pids are those inside the container. What its sockets have to do with each other
 * and with others is looked at last, once it is known whose they are.
 */
export async function findUnsupported(
  tasks: readonly Task[],
  spec: ContainerSpec,
  helper: Helper,
): Promise<string[]> {
  const holders: SocketHolders = new Map();
  // One in a PID namespace of its own calls its first process 1, too, but that one is younger.
  const [init] = tasks.filter(({ nsPid }) => nsPid === 1).sort((a, b) => a.pid - b.pid);
  const first = init === undefined ? new Map<string, string>() : await namespacesOf(init.pid);
  const found = tasks.map(async (task) => {
    const exec = await isExecSession(task);
    const [namespaces, tracers, settings, descriptors, sockets, mappings] = await Promise.all([
      exec ? [] : ownNamespaces(task.pid, first),
      tracersOf(task.pid),
      settingsOf(task.pid),
      descriptorsOf(task.pid),
      helper.socketKinds(task.pid),
      mappingsOf(task.pid),
    ]);
    const items = [
      ...[...(exec ? ["a running exec session"] : []), ...namespaces, ...tracers, ...settings].map(
        (what) => `: ${what}`,
      ),
      ...[...descriptors.found, ...judgeSockets(sockets), ...mappings].map((what) => ` ${what}`),
    ];
    for (const [inode, fd] of descriptors.sockets) holders.set(inode, `pid ${task.nsPid} fd ${fd}`);
    return items.map((item) => `pid ${task.nsPid}${item}`);
  });
  const own = [...(await Promise.all(found)).flat(), ...(await terminalFaults(tasks))];
  if (init === undefined) return own;
  const ordered = [init, ...tasks.filter((task) => task !== init)];
  return [...own, ...(await socketFaults(ordered, spec, holders, helper))];
}

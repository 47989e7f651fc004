/** What the sockets of a container have to do with others, where that cannot move. Only looks. */
import { readdir, readlink } from "node:fs/promises";
import type { Task } from "../../protocol/agent.js";
import type { ContainerSpec, NetworkIdentity } from "../../protocol/container.js";
import { readIfThere } from "../files.js";
import type { Helper } from "../helper.js";
import { log } from "../log.js";
import { containerPaths } from "../paths.js";
import { type InternetSocket, internetSockets } from "../proc-net.js";
import { addressText, isGroup, isLinkLocal, isOwn } from "./addresses.js";

/** Inodes of sockets, and which descriptor has them: "pid 1 fd 3". */
export type SocketHolders = Map<number, string>;
const LISTENING = 10;

/** @param tasks the container's, the first process first */
export async function socketFaults(
  tasks: readonly Task[],
  spec: ContainerSpec,
  holders: SocketHolders,
  helper: Helper,
): Promise<string[]> {
  const [init] = tasks;
  if (holders.size === 0 || init === undefined) return [];
  const { pid } = init;
  const [tcp, udp, netlink, unix] = await Promise.all([
    internetSockets(pid, "tcp"),
    internetSockets(pid, "udp"),
    readIfThere(`/proc/${pid}/net/netlink`),
    helper.unixSockets(containerPaths(spec.name).netns).catch((error: unknown) => {
      // Without unix_diag CRIU does not move it either, and says so before the container stands still.
      log("warn", `UNIX sockets of ${spec.name} are not known: ${String(error)}`);
      return "";
    }),
  ]);
  const sockets = parseUnix(unix);
  const unheld = unheldPeers(sockets, holders);
  const elsewhere = unheld.size === 0 ? unheld : await heldOutside(unheld, tasks);
  return [
    ...[...tcp, ...udp].flatMap((socket) => judgeAddress(socket, spec.network, holders)),
    ...judgeNetlink(netlink ?? "", holders),
    ...judgeUnix(sockets, holders, elsewhere),
  ];
}

/** A socket with an address of its own making, which the other side will not have. */
export function judgeAddress(
  socket: InternetSocket,
  network: NetworkIdentity,
  holders: SocketHolders,
): string[] {
  const holder = holders.get(socket.inode);
  if (holder === undefined || isKept(socket.address, network)) return [];
  return [`${holder}: socket at ${addressText(socket.address)}, which is not an address of the container`];
}

/** Addresses that are there wherever the container is. Groups are joined, not had. */
function isKept(address: readonly number[], network: NetworkIdentity): boolean {
  const isAny = address.every((byte) => byte === 0);
  return isAny || isOwn(address, network) || isGroup(address) || isLinkLocal(address);
}

/** Columns: sk, protocol, pid, groups, rmem, wmem, dump, locks, drops, inode. What is unread stops a dump (criu/sk-netlink.c). */
export function judgeNetlink(text: string, holders: SocketHolders): string[] {
  return text.split("\n").flatMap((line) => {
    const [, , , , unread, , , , , inode] = line.trim().split(/\s+/);
    const holder = holders.get(Number(inode));
    return holder === undefined || !(Number(unread) > 0)
      ? []
      : [`${holder}: netlink socket with unread messages`];
  });
}

export interface UnixSocket {
  readonly state: number;
  /** Inode of the other end; 0 where there is none, or nobody has accepted it yet. */
  readonly peer: number;
  readonly unsent: number;
  /** Inodes of those that wait to be accepted. */
  readonly icons: readonly number[];
}

/** By inode. From lines "INODE STATE PEER UNREAD UNSENT ICONS" of a network namespace. */
export function parseUnix(lines: string): ReadonlyMap<number, UnixSocket> {
  const found = lines.split("\n").filter((line) => line !== "");
  return new Map(
    found.map((line) => {
      const [inode = 0, state = 0, peer = 0, , unsent = 0] = line.split(" ").map(Number);
      const icons = (line.split(" ")[5] ?? "").split(",").filter((icon) => icon !== "");
      return [inode, { state, peer, unsent, icons: icons.map(Number) }];
    }),
  );
}

type UnixSockets = ReadonlyMap<number, UnixSocket>;

/** The other ends of a container's sockets of which none of its tasks has a descriptor. Some may be on their way in a message. */
export function unheldPeers(sockets: UnixSockets, holders: SocketHolders): Set<number> {
  const peers = [...sockets].flatMap(([inode, { peer }]) => (holders.has(inode) && peer !== 0 ? [peer] : []));
  return new Set(peers.filter((peer) => !holders.has(peer)));
}

/**
 * Those of the sockets that a process outside the container has. The kernel counts what has come to a listener as the client's network
 * namespace's, whoever serves there (net/unix/af_unix.c, unix_stream_connect).
 */
async function heldOutside(inodes: ReadonlySet<number>, tasks: readonly Task[]): Promise<Set<number>> {
  const own = new Set(tasks.map(({ pid }) => String(pid)));
  const held = new Set<number>();
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name) && !own.has(name))) {
    const links = (await readdir(`/proc/${pid}/fd`).catch(() => [])).map((fd) => `/proc/${pid}/fd/${fd}`);
    for (const target of await Promise.all(links.map((link) => readlink(link).catch(() => "")))) {
      const inode = Number(/^socket:\[(\d+)\]$/.exec(target)?.[1]);
      if (inodes.has(inode)) held.add(inode);
    }
  }
  return held;
}

/** What criu/sk-unix.c does not dump. @param elsewhere sockets that processes outside the container have */
export function judgeUnix(
  sockets: UnixSockets,
  holders: SocketHolders,
  elsewhere: ReadonlySet<number>,
): string[] {
  return [...sockets].flatMap(([inode, { state, peer, icons }]) => {
    const holder = holders.get(inode);
    if (holder === undefined) return [];
    if (elsewhere.has(peer) || (peer !== 0 && !sockets.has(peer)))
      return [`${holder}: UNIX socket connected to a process outside the container`];
    if (state !== LISTENING) return [];
    if (icons.includes(0))
      return [`${holder}: UNIX socket with a connection that was closed before it was accepted`];
    return icons.some((icon) => (sockets.get(icon)?.unsent ?? 0) > 0)
      ? [`${holder}: UNIX socket with a connection that has sent before it was accepted`]
      : [];
  });
}

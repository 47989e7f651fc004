/** What the sockets of a container have to do with others, where that cannot move. Only looks. */
import type { ContainerSpec, NetworkIdentity } from "../../protocol/container.js";
import { addressBytes } from "../../protocol/ip-address.js";
import { readIfThere } from "../files.js";
import type { Helper } from "../helper.js";
import { kernelFacts } from "../kernel/facts.js";
import { log } from "../log.js";
import { containerPaths } from "../paths.js";
import { type InternetSocket, internetSockets, TcpState } from "../proc-net.js";

/** Inodes of sockets, and which descriptor has them: "pid 1 fd 3". */
export type SocketHolders = Map<number, string>;
const LISTENING = 10;

/** @param pid the container's first process */
export async function socketFaults(
  pid: number,
  spec: ContainerSpec,
  holders: SocketHolders,
  helper: Helper,
): Promise<string[]> {
  if (holders.size === 0) return [];
  const [tcp, udp, netlink, unix, facts] = await Promise.all([
    internetSockets(pid, "tcp"),
    internetSockets(pid, "udp"),
    readIfThere(`/proc/${pid}/net/netlink`),
    helper.unixSockets(containerPaths(spec.name).netns).catch((error: unknown) => {
      // Without unix_diag CRIU does not move it either, and says so before the container stands still.
      log("warn", `UNIX sockets of ${spec.name} are not known: ${String(error)}`);
      return "";
    }),
    kernelFacts(),
  ]);
  return [
    ...[...tcp, ...udp].flatMap((socket) => judgeAddress(socket, spec.network, holders)),
    ...judgeNetlink(netlink ?? "", holders),
    ...judgeUnix(unix, holders),
    ...(facts.tcp === null ? judgeWaiting(tcp) : []),
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
function isKept(address: readonly number[], { ipv4, ipv6 }: NetworkIdentity): boolean {
  const own = [ipv4, ipv6?.address].map((text) => addressBytes(text ?? "")?.join());
  const [first = 0, second = 0] = address;
  const isAny = address.every((byte) => byte === 0);
  if (isAny || own.includes(address.join())) return true;
  if (address.length === 4) return first === 127 || first >= 224;
  const isLinkLocal = first === 0xfe && (second & 0xc0) === 0x80;
  return isLinkLocal || first === 0xff || address.join() === addressBytes("::1")?.join();
}

function addressText(address: readonly number[]): string {
  if (address.length === 4) return address.join(".");
  const groups = Array.from({ length: 8 }, (_, i) =>
    ((address[2 * i]! << 8) | address[2 * i + 1]!).toString(16),
  );
  return new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1);
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

/** From lines "INODE STATE PEER UNREAD UNSENT ICONS" of a network namespace (criu/sk-unix.c says what is wrong with them). */
export function judgeUnix(lines: string, holders: SocketHolders): string[] {
  const sockets = new Map(
    lines
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => {
        const [inode = 0, state = 0, peer = 0, , unsent = 0] = line.split(" ").map(Number);
        const icons = (line.split(" ")[5] ?? "").split(",").filter((icon) => icon !== "");
        return [inode, { state, peer, unsent, icons: icons.map(Number) }] as const;
      }),
  );
  return [...sockets].flatMap(([inode, { state, peer, icons }]) => {
    const holder = holders.get(inode);
    if (holder === undefined) return [];
    if (peer !== 0 && !sockets.has(peer))
      return [`${holder}: UNIX socket connected to a process outside the container`];
    if (state !== LISTENING) return [];
    if (icons.includes(0))
      return [`${holder}: UNIX socket with a connection that was closed before it was accepted`];
    return icons.some((icon) => (sockets.get(icon)?.unsent ?? 0) > 0)
      ? [`${holder}: UNIX socket with a connection that has sent before it was accepted`]
      : [];
  });
}

/** Where the kernel's structures are not known, nobody can take along what nobody has accepted. */
export function judgeWaiting(tcp: readonly InternetSocket[]): string[] {
  const waiting = tcp.filter(
    ({ inode, state }) => inode === 0 && (state === TcpState.established || state === TcpState.closeWait),
  );
  return [...new Set(waiting.map(({ port }) => port))].map(
    (port) => `the container: TCP connections at port ${port} that nobody has accepted`,
  );
}

/** Internet sockets of a network namespace, as /proc/PID/net/tcp and its like list them. */
import { readIfThere } from "./files.js";

/** include/net/tcp_states.h */
export const TcpState = {
  established: 1,
  synSent: 2,
  synRecv: 3,
  finWait1: 4,
  closeWait: 8,
  lastAck: 9,
  listen: 10,
  closing: 11,
} as const;

export interface InternetSocket {
  /** Bytes in network order, 4 or 16; an IPv4 address in an IPv6 socket is one of IPv4. */
  readonly address: readonly number[];
  readonly port: number;
  readonly peer: readonly number[];
  readonly peerPort: number;
  readonly state: number;
  /** Bytes that nobody has read, a peer's end counting for one; of a listener: connections that wait; of UDP: memory they take. */
  readonly unread: number;
  /** 0 where no descriptor leads to it. */
  readonly inode: number;
}

/** All of one protocol, by IPv4 and IPv6. */
export async function internetSockets(
  pid: number,
  protocol: "tcp" | "udp" | "udplite" | "raw" | "icmp",
): Promise<InternetSocket[]> {
  const names = [protocol, `${protocol}6`];
  const texts = await Promise.all(names.map((name) => readIfThere(`/proc/${pid}/net/${name}`)));
  return texts.flatMap((text) => parseSockets(text ?? ""));
}

/** Columns: sl, local, remote, state, tx:rx, timer, retransmits, uid, timeout, inode, ... */
export function parseSockets(text: string): InternetSocket[] {
  return text.split("\n").flatMap((line) => {
    const [, local = "", remote = "", state = "", queues = "", , , , , inode = ""] = line.trim().split(/\s+/);
    const [mine, peer] = [parseEnd(local), parseEnd(remote)];
    if (mine === null || peer === null) return [];
    return {
      address: mine.address,
      port: mine.port,
      peer: peer.address,
      peerPort: peer.port,
      state: Number.parseInt(state, 16),
      unread: Number.parseInt(queues.split(":")[1] ?? "", 16),
      inode: Number(inode),
    };
  });
}

/** "0100007F:1F90": words of 32 bits in this machine's byte order. */
function parseEnd(text: string): { address: number[]; port: number } | null {
  const [hex = "", port = ""] = text.split(":");
  if (!/^([0-9A-F]{8}){1,4}$/.test(hex) || !/^[0-9A-F]{4}$/.test(port)) return null;
  const words = hex.match(/.{8}/g) ?? [];
  const bytes = words.flatMap((word) => [...Buffer.from(word, "hex").reverse()]);
  return { address: unmapped(bytes), port: Number.parseInt(port, 16) };
}

/** An IPv4 address in an IPv6 socket (::ffff:a.b.c.d) is what it is on the wire. */
export function unmapped(bytes: number[]): number[] {
  const isMapped =
    bytes.length === 16 &&
    bytes.slice(0, 10).every((byte) => byte === 0) &&
    bytes[10] === 0xff &&
    bytes[11] === 0xff;
  return isMapped ? bytes.slice(12) : bytes;
}

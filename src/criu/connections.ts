/** The TCP connections of a dump: files.img, and tcp-stream-INO.img of each (criu/sk-inet.c, soccr/soccr.c). */
import { type Connection, ConnectionSchema } from "../protocol/connection.js";
import { LOOSE_FILE, LooseConnectionsSchema } from "../protocol/loose-connection.js";
import { FileEntrySchema, type InetSocketEntry, TcpStreamEntrySchema } from "./gen/socket_pb.js";
import { decodeImage, decodeRecord, imageError, recordBounds } from "./image.js";
import type { ImageFiles } from "./tasks.js";

/** fd_types (images/fdinfo.proto). */
const INET_SOCKET = 4;
const AF_INET = 2;
const AF_INET6 = 10;
const IPPROTO_TCP = 6;
const LOOPBACK = 127;

/**
 * Connections to somebody outside. A listening socket has no stream, and one to the container itself is frozen at both ends.
 * @throws MWARP_E_IMAGE when an image is not as expected
 */
export function readConnections(files: ImageFiles): Connection[] {
  const all = files.get("files.img");
  if (all === undefined) return [];
  return decodeImage("files.img", "files", all).flatMap((record) => {
    const { type, inet } = decodeRecord("files.img", FileEntrySchema, record);
    if (type !== INET_SOCKET || inet === undefined || inet.proto !== IPPROTO_TCP) return [];
    const name = `tcp-stream-${inet.ino.toString(16)}.img`;
    const stream = files.get(name);
    if (stream === undefined) return [];
    const found = ConnectionSchema.safeParse({
      address: readAddress(inet, inet.srcAddr),
      port: inet.srcPort,
      peer: readAddress(inet, inet.dstAddr),
      peerPort: inet.dstPort,
      nextFromPeer: readStream(name, stream).inqSeq,
    });
    if (!found.success) throw imageError(name, "no connection has such ends");
    return isOutside(found.data) ? [found.data] : [];
  });
}

/**
 * Connections that no task has and that the source's agent wrote down beside the images.
 * @throws MWARP_E_IMAGE when they are not as expected
 */
export function readLooseConnections(files: ImageFiles): Connection[] {
  const bytes = files.get(LOOSE_FILE);
  if (bytes === undefined) return [];
  const all = LooseConnectionsSchema.safeParse(JSON.parse(new TextDecoder().decode(bytes)));
  if (!all.success) throw imageError(LOOSE_FILE, "no such connections");
  return all.data
    .filter(({ kind }) => kind !== "closed")
    .map(({ address, port, peer, peerPort, fromPeer, received, ended }) => {
      const nextFromPeer = (fromPeer + received + (ended ? 1 : 0)) % 2 ** 32;
      return { address, port, peer, peerPort, nextFromPeer };
    })
    .filter(isOutside);
}

const isOutside = ({ address, peer }: Connection): boolean =>
  !(peer.length === 4 && peer[0] === LOOPBACK) && !peer.every((byte, i) => byte === address[i]);

/** The contents of the queues follow the one record, so the image as a whole is none of records. */
function readStream(name: string, bytes: Uint8Array) {
  const [first] = recordBounds(name, "tcpStream", bytes);
  if (first === undefined) throw imageError(name, "no record");
  return decodeRecord(name, TcpStreamEntrySchema, bytes.subarray(first.start, first.end));
}

/** 4 or 16 bytes. An IPv4 address in an IPv6 socket (::ffff:a.b.c.d) is what it is on the wire. */
function readAddress({ family }: InetSocketEntry, words: readonly number[]): number[] {
  const bytes = words.flatMap((word) => [0, 8, 16, 24].map((shift) => (word >>> shift) & 0xff));
  if (family === AF_INET) return bytes.slice(0, 4);
  if (family !== AF_INET6 || bytes.length < 16)
    throw imageError("files.img", `an address of family ${family}`);
  const isMapped = bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  return isMapped ? bytes.slice(12, 16) : bytes.slice(0, 16);
}

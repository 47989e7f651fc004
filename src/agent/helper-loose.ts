/** Connections that no task has, as the helper takes them (native/guest/loose.h). */
import type { LooseConnection } from "../protocol/loose-connection.js";

const RECORD_BYTES = 96;

/** Where a container's link is: its network namespace, the interface there, the other end, the bridge for that, and its MAC. */
export interface LinkPlace {
  readonly netns: string;
  readonly device: string;
  readonly veth: string;
  readonly bridge: string;
  readonly mac: string;
}

/** Connections, and what each has received and not sent, one after the other. */
export interface LooseConnections {
  readonly connections: readonly LooseConnection[];
  readonly data: Uint8Array;
  /** What was received is handed in in segments of at most so many bytes, 64,000 and less. */
  readonly segmentBytes: number;
}

const kinds = { waiting: 0, opening: 1, closed: 2, answered: 3 } as const;

/** struct loose */
function encodeLoose(connection: LooseConnection, segmentBytes: number): Buffer {
  const { address, port, peer, peerPort, scales, sack, timestamps, ended, window } = connection;
  const body = Buffer.alloc(RECORD_BYTES);
  const flags = [scales !== null, sack, timestamps !== null, ended];
  body.writeUInt32LE(address.length === 4 ? 4 : 6, 0);
  body.set(address, 4);
  body.set(peer, 20);
  body.writeUInt16LE(port, 36);
  body.writeUInt16LE(peerPort, 38);
  body.writeUInt32LE(connection.fromPeer, 40);
  body.writeUInt32LE(connection.toPeer, 44);
  body.writeUInt16LE(connection.mss, 48);
  body.writeUInt8(scales?.send ?? 0, 50);
  body.writeUInt8(scales?.receive ?? 0, 51);
  body.writeUInt8(
    flags.reduce((sum, isSet, bit) => sum | (isSet ? 1 << bit : 0), 0),
    52,
  );
  body.writeUInt8(kinds[connection.kind], 53);
  body.writeUInt16LE(segmentBytes, 54);
  const words = [
    ...[timestamps?.ours ?? 0, timestamps?.peers ?? 0],
    ...[window.send, window.most, window.updated, window.receive, window.told],
    ...[connection.received, connection.outgoing, connection.unsent],
  ];
  for (const [i, word] of words.entries()) body.writeUInt32LE(word, 56 + 4 * i);
  return body;
}

/** Body of ADMIT and REOPEN (native/guest/pages.c). */
export function encodeLooseBody(
  place: LinkPlace,
  { connections, data, segmentBytes }: LooseConnections,
): Buffer {
  const { mac, netns, device, veth, bridge } = place;
  return Buffer.concat([
    ...connections.map((connection) => encodeLoose(connection, segmentBytes)),
    Buffer.from(mac.split(":").map((part) => Number.parseInt(part, 16))),
    Buffer.from(`${[netns, device, veth, bridge].join("\0")}\0`),
    data,
  ]);
}

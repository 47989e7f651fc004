/** TCP connections in the images of a dump. */
import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { readConnections } from "../../../src/criu/connections.js";
import { FileEntrySchema, TcpStreamEntrySchema } from "../../../src/criu/gen/socket_pb.js";
import { encodeImage } from "../../../src/criu/image.js";
import { ConnectionSchema } from "../../../src/protocol/connection.js";

const AF_INET = 2;
const AF_INET6 = 10;
/** As it lies in memory. */
const words = (...bytes: number[]): number[] =>
  Array.from({ length: bytes.length / 4 }, (_, i) => Buffer.from(bytes).readUInt32LE(i * 4));
const v4 = (text: string): number[] => words(...text.split(".").map(Number));

interface Socket {
  ino: number;
  family?: number;
  proto?: number;
  port?: number;
  peerPort?: number;
  from: number[];
  to: number[];
}

const file = ({
  ino,
  family = AF_INET,
  proto = 6,
  port = 80,
  peerPort = 40_000,
  from,
  to,
}: Socket): Uint8Array =>
  toBinary(
    FileEntrySchema,
    create(FileEntrySchema, {
      type: 4,
      inet: { ino, family, proto, srcPort: port, dstPort: peerPort, srcAddr: from, dstAddr: to },
    }),
  );
const files = (...records: Uint8Array[]): [string, Uint8Array] => [
  "files.img",
  encodeImage("files", records),
];
/** With something in the queues, which follows the record. */
const stream = (ino: number, inqSeq: number): [string, Uint8Array] => {
  const record = toBinary(TcpStreamEntrySchema, create(TcpStreamEntrySchema, { inqLen: 3, inqSeq }));
  return [
    `tcp-stream-${ino.toString(16)}.img`,
    Buffer.concat([encodeImage("tcpStream", [record]), Buffer.from([0xff, 0xff, 0xff])]),
  ];
};

describe("the connections of a dump", () => {
  it("are those that have a stream, with what comes next from the peer", () => {
    const here = v4("10.77.0.100");
    const images = new Map([
      files(
        toBinary(FileEntrySchema, create(FileEntrySchema, { type: 1 })),
        file({ ino: 0x2a, from: here, to: v4("192.0.2.7"), port: 6379, peerPort: 50_001 }),
        file({ ino: 0x2b, from: here, to: v4("0.0.0.0"), peerPort: 0 }),
        file({ ino: 0x2c, from: here, to: v4("192.0.2.8"), proto: 17 }),
      ),
      stream(0x2a, 0xfffffff0),
    ]);
    expect(readConnections(images)).toEqual([
      {
        address: [10, 77, 0, 100],
        port: 6379,
        peer: [192, 0, 2, 7],
        peerPort: 50_001,
        nextFromPeer: 0xfffffff0,
      },
    ]);
  });

  it("are none to the container itself", () => {
    const own = v4("10.77.0.100");
    const images = new Map([
      files(
        file({ ino: 1, from: v4("127.0.0.1"), to: v4("127.0.0.1") }),
        file({ ino: 2, from: own, to: own }),
      ),
      stream(1, 1),
      stream(2, 1),
    ]);
    expect(readConnections(images)).toEqual([]);
  });

  it("are IPv4 ones where an IPv6 socket speaks IPv4", () => {
    const mapped = (a: number, b: number, c: number, d: number): number[] =>
      words(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d);
    const six = (last: number): number[] => words(0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last);
    const images = new Map([
      files(
        file({ ino: 1, family: AF_INET6, from: mapped(10, 0, 0, 1), to: mapped(10, 0, 0, 2) }),
        file({ ino: 2, family: AF_INET6, from: six(1), to: six(2) }),
      ),
      stream(1, 5),
      stream(2, 6),
    ]);
    const [four, real] = readConnections(images);
    expect([four.address, four.peer]).toEqual([
      [10, 0, 0, 1],
      [10, 0, 0, 2],
    ]);
    expect(real.peer).toHaveLength(16);
    expect(real.peer.at(-1)).toBe(2);
  });

  it("are what can be told to an agent, or an error", () => {
    const to = v4("192.0.2.7");
    const from = v4("10.0.0.1");
    for (const wrong of [
      { ino: 1, from, to, port: 70_000 },
      { ino: 1, from, to, peerPort: 0 },
      { ino: 1, from, to: [] },
      { ino: 1, from, to, family: 77 },
    ])
      expect(() => readConnections(new Map([files(file(wrong)), stream(1, 1)]))).toThrow(
        expect.objectContaining({ code: "MWARP_E_IMAGE" }),
      );
    const unequal = {
      address: [1, 2, 3, 4],
      port: 1,
      peer: new Array(16).fill(0),
      peerPort: 1,
      nextFromPeer: 1,
    };
    expect(ConnectionSchema.safeParse(unequal).success).toBe(false);
  });

  it("are none of a dump without files", () => {
    expect(readConnections(new Map())).toEqual([]);
  });
});

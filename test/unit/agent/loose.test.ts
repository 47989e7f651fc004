/** Connections that no task has, and datagrams that nobody has read: which of them move, and how they are written down. */
import { describe, expect, it } from "vitest";
import { encodeLooseBody } from "../../../src/agent/helper-loose.js";
import { between, type LooseSocket } from "../../../src/agent/kernel/tcp-sockets.js";
import { deliverable } from "../../../src/agent/migration/loose-datagrams.js";
import { judgeSockets, judgeUnseen } from "../../../src/agent/migration/loose-faults.js";
import type { LooseConnection } from "../../../src/protocol/loose-connection.js";

const network = {
  mac: "02:6d:0a:4d:00:64",
  ipv4: "10.77.0.100",
  prefixLength: 24,
  gateway: null,
  ipv6: { address: "fd6d:7761:7270::100", prefixLength: 64 },
};
const connection: LooseConnection = {
  kind: "waiting",
  address: [10, 77, 0, 100],
  port: 80,
  peer: [10, 77, 0, 1],
  peerPort: 4711,
  fromPeer: 0x11223344,
  toPeer: 0xffffffff,
  mss: 1460,
  scales: { send: 7, receive: 6 },
  sack: true,
  timestamps: { ours: 1, peers: 2 },
  window: { send: 3, most: 4, updated: 5, receive: 6, told: 7 },
  received: 2,
  ended: true,
  outgoing: 0,
  unsent: 0,
};

const v6 = (...head: number[]) => [...head, ...new Array<number>(15 - head.length).fill(0), 1];

describe("connections that no process has", () => {
  const socket = (change: Partial<LooseConnection>, fault: string | null = null): LooseSocket => ({
    connection: { ...connection, ...change },
    fault,
    received: Buffer.from("hi"),
    outgoing: Buffer.alloc(0),
  });

  it("move when they came from outside to an address that goes with the container, or were closed", () => {
    const own = { address: [0xfd, 0x6d, 0x77, 0x61, 0x72, 0x70, ...new Array<number>(8).fill(0), 1, 0] };
    const within = { address: [127, 0, 0, 1], peer: [127, 0, 0, 1] };
    const sockets = [
      socket({}),
      socket({ kind: "closed", ...within }),
      socket({ ...own, peer: v6(0x20, 1) }),
    ];
    expect(judgeSockets(sockets, network)).toEqual([]);
  });

  it.each([
    [
      socket({ peer: [127, 0, 0, 1], address: [127, 0, 0, 1] }),
      /of 127\.0\.0\.1 at port 80 .*both ends are in/,
    ],
    [socket({ peer: [10, 77, 0, 100] }), /both ends are in the container/],
    [socket({ peer: v6(), address: v6() }), /of ::1 .*both ends are in the container/],
    [socket({ peer: v6(0xfe, 0x80), address: v6(0xfe, 0x80, 1) }), /of fe80::1 .*link-local/],
    [socket({ address: [10, 77, 0, 200] }), /10\.77\.0\.200 is not an address of the container/],
    [socket({ kind: "opening" }, "it takes less"), /that is being opened: it takes less$/],
  ])("are refused by name otherwise", (one, pattern) => {
    const [fault, ...more] = judgeSockets([socket({}), one], network);
    expect(fault).toMatch(pattern);
    expect(more).toEqual([]);
  });

  it("are refused when they hold more than is taken along", () => {
    const full = { ...socket({}), received: Buffer.alloc(48 * 1024 * 1024) };
    expect(judgeSockets([full, socket({})], network)).toEqual([
      expect.stringMatching(/2 TCP connections that no process has, with 50331650 bytes/),
    ]);
  });

  it("are named by their ports where the kernel shows no more", () => {
    const listed = [{ kind: "waiting", port: 80 } as const, { kind: "waiting", port: 80 } as const];
    expect(judgeUnseen([...listed, { kind: "closed", port: 81 }])).toEqual([
      expect.stringMatching(/at port 80 that nobody has accepted/),
      expect.stringMatching(/at port 81 that was closed/),
    ]);
  });
});

it("of unread datagrams those move that were sent to the container alone, from outside", () => {
  const record = (address: number[], peer: number[], text: string) => {
    const head = Buffer.alloc(44);
    head.writeUInt32LE(address.length === 4 ? 4 : 6, 0);
    head.set(address, 4);
    head.set(peer, 20);
    head.writeUInt32LE(text.length, 40);
    return Buffer.concat([head, Buffer.from(text)]);
  };
  const [own, peer] = [
    [10, 77, 0, 100],
    [10, 77, 0, 1],
  ] as const;
  const wanted = [record([...own], [...peer], "one"), record([...own], [...peer], "")];
  const others = [
    record([224, 0, 0, 251], [...peer], "to a group"),
    record([10, 77, 0, 255], [...peer], "to all"),
    record([...own], [...own], "from within"),
    record([127, 0, 0, 1], [127, 0, 0, 1], "from within"),
    record(v6(0xff, 2), v6(0x20, 1), "to a group"),
  ];
  const all = Buffer.concat([wanted[0]!, ...others, wanted[1]!]);
  expect(deliverable(all, network)).toEqual(wanted);
});

describe("the bytes of a queue", () => {
  const segment = (sequence: number, text: string) => ({ sequence, bytes: Buffer.from(text) });
  const text = (...args: Parameters<typeof between>) => between(...args).toString();

  it("are taken in a row, without what was read or confirmed, also where numbers wrap around", () => {
    expect(text([segment(10, "abc"), segment(13, "def")], 10, 16)).toBe("abcdef");
    expect(text([segment(10, "abc"), segment(13, "def")], 11, 16)).toBe("bcdef");
    expect(text([segment(10, "abc"), segment(13, "def")], 14, 16)).toBe("ef");
    expect(text([segment(10, "abc"), segment(12, "cd"), segment(14, "")], 10, 14)).toBe("abcd");
    expect(text([segment(0xffff_fffe, "abcd")], 0xffff_fffe, 2)).toBe("abcd");
    expect(text([], 5, 5)).toBe("");
  });

  it("are refused when some are missing, or there are more", () => {
    for (const queue of [
      [],
      [segment(10, "ab")],
      [segment(10, "ab"), segment(13, "d")],
      [segment(10, "abcde")],
    ])
      expect(() => between(queue, 10, 14)).toThrow(expect.objectContaining({ code: "MWARP_E_UNSUPPORTED" }));
  });
});

it("a connection is written down as the helper reads it", () => {
  const place = { mac: "02:00:00:00:00:01", netns: "/n", device: "eth0", veth: "v1", bridge: "br0" };
  const body = encodeLooseBody(place, {
    connections: [connection],
    data: Buffer.from("hi"),
    segmentBytes: 8000,
  });
  expect(body.length).toBe(96 + 6 + "/n.eth0.v1.br0.".length + 2);
  expect([body.readUInt32LE(0), body.readUInt32LE(40), body.readUInt32LE(44)]).toEqual([
    4, 0x11223344, 0xffffffff,
  ]);
  expect(body.readUInt16LE(54)).toBe(8000);
  expect([body.readUInt8(50), body.readUInt8(51), body.readUInt8(52), body.readUInt8(53)]).toEqual([
    7, 6, 0b1111, 0,
  ]);
  expect(Array.from({ length: 10 }, (_, i) => body.readUInt32LE(56 + 4 * i))).toEqual([
    1, 2, 3, 4, 5, 6, 7, 2, 0, 0,
  ]);
  expect(body.subarray(96).toString("latin1")).toBe("\x02\0\0\0\0\x01/n\0eth0\0v1\0br0\0hi");
});

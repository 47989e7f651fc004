/** What the agent makes of what the kernel says of sockets: who cannot move, and the bytes of those that nobody has. */
import { describe, expect, it } from "vitest";
import { encodeLooseBody } from "../../../src/agent/helper-loose.js";
import { between } from "../../../src/agent/kernel/tcp-sockets.js";
import {
  judgeAddress,
  judgeNetlink,
  judgeUnix,
  judgeWaiting,
} from "../../../src/agent/migration/socket-faults.js";
import { parseSockets } from "../../../src/agent/proc-net.js";
import type { LooseConnection } from "../../../src/protocol/loose-connection.js";

/** Lines of a guest's /proc/PID/net/tcp and tcp6. */
const LINES = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:2328 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 1834 1 000000008141ef96 100 0 0 10 0
   6: 64004D0A:232C 01004D0A:A54A 08 00000000:00007531 00:00000000 00000000     0        0 0 1 00000000977fe2c5 24 4 20 10 -1
  12: 61776DFD000070720000000000010000:2391 61776DFD000070720000000001000000:E17E 03 00000000:00000000 01:000001CB 00000003     0        0 0 0 0000000082b63e5b
  14: 0000000000000000FFFF000064004D0A:23F2 0000000000000000FFFF000001004D0A:A7A8 08 00000000:00000000 00:00000000 00000000     0        0 1875 2 000000007fec908b 21 4 28 10 -1`;
const holders = new Map([
  [1834, "pid 1 fd 3"],
  [1875, "pid 1 fd 4"],
]);
const network = {
  mac: "02:6d:0a:4d:00:64",
  ipv4: "10.77.0.100",
  prefixLength: 24,
  gateway: null,
  ipv6: { address: "fd6d:7761:7270::100", prefixLength: 64 },
};

describe("sockets that the kernel lists", () => {
  it("are read with their addresses as on the wire", () => {
    const [listener, waiting, opening, mapped] = parseSockets(LINES);
    expect(listener).toMatchObject({ address: [0, 0, 0, 0], port: 9000, state: 10, unread: 3, inode: 1834 });
    expect(waiting).toMatchObject({
      address: [10, 77, 0, 100],
      port: 9004,
      peer: [10, 77, 0, 1],
      peerPort: 42314,
    });
    expect(waiting).toMatchObject({ state: 8, unread: 30_001, inode: 0 });
    expect(opening?.address).toEqual([0xfd, 0x6d, 0x77, 0x61, 0x72, 0x70, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    expect(mapped?.peer).toEqual([10, 77, 0, 1]);
    expect(parseSockets("")).toEqual([]);
  });

  it("stay where they are with an address that only this side has", () => {
    const at = (address: number[]) => judgeAddress({ ...parseSockets(LINES)[0]!, address }, network, holders);
    const v6 = (...head: number[]) => [...head, ...new Array<number>(15 - head.length).fill(0), 1];
    for (const address of [
      [10, 77, 0, 100],
      [127, 0, 0, 5],
      [0, 0, 0, 0],
      [239, 1, 2, 3],
      v6(0),
      v6(0xfe, 0x80),
    ])
      expect(at(address)).toEqual([]);
    expect(at([10, 77, 0, 9])).toEqual([
      "pid 1 fd 3: socket at 10.77.0.9, which is not an address of the container",
    ]);
    expect(at(v6(0xfd, 0x11))).toEqual([expect.stringContaining("at fd11::1,")]);
    // Nobody's, or somebody else's.
    expect(
      judgeAddress({ ...parseSockets(LINES)[0]!, address: [10, 0, 0, 9], inode: 7 }, network, holders),
    ).toEqual([]);
  });

  it("are named where nobody has accepted them", () => {
    expect(judgeWaiting(parseSockets(LINES))).toEqual([
      "the container: TCP connections at port 9004 that nobody has accepted",
    ]);
  });
});

describe("sockets within a VM stay where they are", () => {
  it("with unread messages of the kernel", () => {
    const text = `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
0 0 441 00000001 2304 0 0 2 0 1834
0 0 442 00000001 0 0 0 2 0 1875
0 0 443 00000001 9 0 0 2 0 99`;
    expect(judgeNetlink(text, holders)).toEqual(["pid 1 fd 3: netlink socket with unread messages"]);
  });

  it.each([
    ["1834 1 1875 0 0 \n1875 1 1834 9 0 \n", []],
    ["1834 1 4711 0 0 \n", ["pid 1 fd 3: UNIX socket connected to a process outside the container"]],
    ["1834 10 0 1 4 1875\n1875 1 0 0 0 \n", []],
    [
      "1834 10 0 1 4 0\n",
      ["pid 1 fd 3: UNIX socket with a connection that was closed before it was accepted"],
    ],
    [
      "1834 10 0 1 4 1875\n1875 1 0 0 512 \n",
      ["pid 1 fd 3: UNIX socket with a connection that has sent before it was accepted"],
    ],
    ["77 1 4711 0 0 \n", []],
  ])("when sock_diag says %j", (lines, faults) => {
    expect(judgeUnix(lines, holders)).toEqual(faults);
  });
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
    timestamps: { ours: 1, peers: 2, microseconds: false },
    window: { send: 3, most: 4, updated: 5, receive: 6, told: 7 },
    received: 2,
    ended: true,
    outgoing: 0,
    unsent: 0,
  };
  const place = { mac: "02:00:00:00:00:01", netns: "/n", device: "eth0", veth: "v1", bridge: "br0" };
  const body = encodeLooseBody(place, { connections: [connection], data: Buffer.from("hi") });
  expect(body.length).toBe(96 + 6 + "/n.eth0.v1.br0.".length + 2);
  expect([body.readUInt32LE(0), body.readUInt32LE(40), body.readUInt32LE(44)]).toEqual([
    4, 0x11223344, 0xffffffff,
  ]);
  expect([body.readUInt8(50), body.readUInt8(51), body.readUInt8(52), body.readUInt8(53)]).toEqual([
    7, 6, 0b10111, 0,
  ]);
  expect(Array.from({ length: 10 }, (_, i) => body.readUInt32LE(56 + 4 * i))).toEqual([
    1, 2, 3, 4, 5, 6, 7, 2, 0, 0,
  ]);
  expect(body.subarray(96).toString("latin1")).toBe("\x02\0\0\0\0\x01/n\0eth0\0v1\0br0\0hi");
});

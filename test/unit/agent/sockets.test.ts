/** What the agent makes of what the kernel says of sockets, and who cannot move. */
import { describe, expect, it } from "vitest";
import {
  judgeAddress,
  judgeNetlink,
  judgeUnix,
  parseUnix,
  unheldPeers,
} from "../../../src/agent/migration/socket-faults.js";
import { parseSockets } from "../../../src/agent/proc-net.js";

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
    expect(judgeUnix(parseUnix(lines), holders, new Set())).toEqual(faults);
  });

  it("with an end that somebody outside has, but not with one that is on its way in a message", () => {
    const sockets = parseUnix("1834 1 55 0 0 \n55 1 1834 0 0 \n1875 1 66 0 0 \n66 1 1875 0 0 \n");
    expect(unheldPeers(sockets, holders)).toEqual(new Set([55, 66]));
    expect(judgeUnix(sockets, holders, new Set([55]))).toEqual([
      "pid 1 fd 3: UNIX socket connected to a process outside the container",
    ]);
  });
});

import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { ociConfig } from "../../../src/agent/containers/bundle.js";
import { tailOffset } from "../../../src/agent/containers/logs.js";
import { vethName } from "../../../src/agent/containers/network.js";
import { parseSegments } from "../../../src/agent/kernel/kcore.js";
import { parseSymbols } from "../../../src/agent/kernel/symbols.js";
import { byTask } from "../../../src/agent/migration/pages.js";
import { judgeDescriptor, judgeMapping, judgeSockets } from "../../../src/agent/migration/unsupported.js";
import { mountsBelow } from "../../../src/agent/mounts.js";
import { Turns } from "../../../src/agent/turns.js";
import type { ContainerSpec } from "../../../src/protocol/container.js";

const spec: ContainerSpec = {
  name: "web",
  id: "0123456789abcdef0123456789abcdef",
  rootfs: "0".repeat(64),
  network: { mac: "02:00:00:00:00:01", ipv4: "10.0.0.2", prefixLength: 24, gateway: null, ipv6: null },
  hostname: "web",
  runtime: "runc",
  oci: {
    ociVersion: "1.0.2",
    process: { args: ["sh"], terminal: true },
    root: { readonly: true },
    annotations: { a: "b" },
    linux: { namespaces: [{ type: "pid" }, { type: "network" }], resources: { memory: { limit: 1 } } },
  },
  createdAt: "2024-01-01T00:00:00Z",
  restart: { name: "no" },
  health: null,
};

describe("the OCI configuration", () => {
  it("keeps what the host said and puts this guest's paths in", () => {
    const config = ociConfig(spec) as { linux: { namespaces: { type: string; path?: string }[] } };
    expect(config).toMatchObject({
      hostname: "web",
      root: { readonly: true, path: "/run/mwarp-guest/containers/web/bundle/rootfs" },
      process: { args: ["sh"], terminal: true },
      annotations: { a: "b", "org.criu.config": "" },
      linux: { cgroupsPath: "/mwarp/web", resources: { memory: { limit: 1 } } },
    });
    expect(config.linux.namespaces).toEqual([
      { type: "pid" },
      { type: "network", path: "/run/netns/mw-web" },
    ]);
  });

  it("names the veth within the 15 bytes the kernel allows", () => {
    expect(vethName(spec)).toBe("v0123456789ab");
  });
});

describe("what cannot move", () => {
  it("is named by what the kernel calls a descriptor", () => {
    expect(judgeDescriptor("anon_inode:[io_uring]")).toBe("io_uring");
    expect(judgeDescriptor("anon_inode:[userfaultfd]")).toBe("userfaultfd");
    expect(judgeDescriptor("/dev/kvm")).toBe("device /dev/kvm");
    expect(judgeDescriptor("/secretmem (deleted)")).toBe("memfd_secret");
  });

  it("does not include what CRIU takes along", () => {
    for (const target of [
      "/dev/null",
      "/dev/pts/0",
      "pipe:[12]",
      "socket:[3]",
      "anon_inode:[eventpoll]",
      "/data/x",
    ]) {
      expect(judgeDescriptor(target)).toBeNull();
    }
  });

  it("is found among sockets, with what helps", () => {
    expect(judgeSockets("3 TCP\n4 UNIX-STREAM\n7 MPTCP\n9 ALG\n12 AF_VSOCK\n13 \n")).toEqual([
      "fd 7: MPTCP socket (Go programs: GODEBUG=multipathtcp=0)",
      "fd 9: ALG socket",
      "fd 12: AF_VSOCK socket",
      "fd 13: unknown socket",
    ]);
    expect(judgeSockets("")).toEqual([]);
  });

  it("is found among mappings", () => {
    expect(judgeMapping("/[aio] (deleted)")).toBe("asynchronous I/O (io_setup)");
    expect(judgeMapping("/anon_hugepage (deleted)")).toBe("hugetlb memory");
    expect(judgeMapping("/dev/dri/card0")).toBe("device mapping /dev/dri/card0");
    for (const name of ["", "[heap]", "[vvar]", "/dev/zero (deleted)", "/dev/shm/x", "/memfd:a (deleted)"]) {
      expect(judgeMapping(name)).toBeNull();
    }
  });
});

describe("small parts", () => {
  it("a tail of n lines begins after the n-th newline from the end, with or without a last newline", () => {
    const tail = (text: string, lines: number) => text.slice(tailOffset(Buffer.from(text), lines));
    expect(tail("a\nb\nc\n", 2)).toBe("b\nc\n");
    expect(tail("a\nb\nc", 2)).toBe("b\nc");
    expect(tail("a\nb\n", 9)).toBe("a\nb\n");
    expect(tail("a\nb\n", 0)).toBe("");
    expect(tail("", 3)).toBe("");
  });

  it("a line that was cut counts once in a tail", () => {
    const log = "t stdout F a\nt stdout P b\nt stdout F c\nt stderr F d P \nt stdout F e\n";
    const tail = (lines: number) => log.slice(tailOffset(Buffer.from(log), lines)).split("\n").length - 1;
    expect([1, 2, 3, 4, 5].map(tail)).toEqual([1, 2, 4, 5, 5]);
  });

  it("runs stay in order and go to the task with that pid in the container", () => {
    const tasks = [
      { pid: 100, nsPid: 1 },
      { pid: 107, nsPid: 5 },
    ];
    const run = (nsPid: number, page: number) => ({ nsPid, page, pages: 1 });
    const groups = byTask([run(1, 1), run(1, 2), run(5, 1), run(1, 9)], tasks);
    expect(groups.map((group) => [group.pid, group.runs.map((r) => r.page)])).toEqual([
      [100, [1, 2]],
      [107, [1]],
      [100, [9]],
    ]);
    expect(() => byTask([run(2, 1)], tasks)).toThrow(/no task with pid 2/);
  });

  it("mounts come off in the reverse order, and a neighbour with a longer name stays", () => {
    const mountinfo = ["/run/a", "/run/a/b", "/run/ab", "/run/a"]
      .map((p, i) => `${i} 1 0:1 / ${p} rw`)
      .join("\n");
    expect(mountsBelow(mountinfo, "/run/a")).toEqual(["/run/a", "/run/a/b", "/run/a"]);
  });

  it("segments of /proc/kcore keep 64-bit addresses, and no physical address where the kernel gives none", () => {
    const head = Buffer.alloc(64 + 3 * 56);
    head.writeUInt32BE(0x7f454c46, 0);
    head.writeBigUInt64LE(64n, 32);
    head.writeUInt16LE(3, 56);
    const segment = (i: number, type: number, vaddr: bigint, paddr: bigint) => {
      const at = 64 + i * 56;
      head.writeUInt32LE(type, at);
      head.writeBigUInt64LE(0x3000n, at + 8);
      head.writeBigUInt64LE(vaddr, at + 16);
      head.writeBigUInt64LE(paddr, at + 24);
      head.writeBigUInt64LE(0x1000n, at + 40);
    };
    segment(0, 4, 0n, 0n);
    segment(1, 1, 0xff11_0000_0000_1000n, 0x1000n);
    segment(2, 1, 0xffa0_0000_0000_0000n, 0xffff_ffff_ffff_ffffn);
    expect(parseSegments(head)).toEqual([
      { vaddr: 0xff11_0000_0000_1000n, paddr: 0x1000n, offset: 0x3000n, bytes: 0x1000n },
      { vaddr: 0xffa0_0000_0000_0000n, paddr: null, offset: 0x3000n, bytes: 0x1000n },
    ]);
    expect(parseSymbols("init_task ffffffffb9610940\n").get("init_task")).toBe(0xffff_ffff_b961_0940n);
  });
});

describe("Turns", () => {
  const forever = new AbortController().signal;

  it("runs one operation of a migration at a time, and those of others beside it", async () => {
    const turns = new Turns();
    const order: string[] = [];
    const work = (name: string, ms: number) => async () => {
      order.push(`${name}+`);
      await sleep(ms);
      order.push(`${name}-`);
    };
    await Promise.all([
      turns.run("m", forever, work("a", 20)),
      turns.run("m", forever, work("b", 1)),
      turns.run("other", forever, work("c", 1)),
    ]);
    expect(order).toEqual(["a+", "c+", "c-", "a-", "b+", "b-"]);
  });

  it("lets the end of a migration stop what runs, and then runs itself", async () => {
    const turns = new Turns();
    const running = turns.run("m", forever, (signal) => sleep(10_000, undefined, { signal }));
    await sleep(1);
    const ended = turns.interrupt("m", async () => "ended");
    await expect(running).rejects.toThrow();
    await expect(ended).resolves.toBe("ended");
  });

  it("does not start an operation whose caller hung up while it waited", async () => {
    const turns = new Turns();
    const caller = new AbortController();
    const first = turns.run("m", forever, () => sleep(10));
    let started = false;
    const second = turns.run("m", caller.signal, async () => {
      started = true;
    });
    caller.abort(new Error("hung up"));
    await first;
    await expect(second).rejects.toThrow("hung up");
    expect(started).toBe(false);
  });

  it("lets the end of a migration stop what is still waiting for its turn", async () => {
    const turns = new Turns();
    const wait = (signal: AbortSignal) => sleep(10_000, undefined, { signal });
    // Both before the first has begun, as two requests that come in one piece.
    const first = turns.run("m", forever, wait);
    const second = turns.interrupt("m", wait);
    const ended = turns.interrupt("m", async () => "ended");
    await expect(first).rejects.toThrow("overtaken");
    await expect(second).rejects.toThrow("overtaken");
    await expect(ended).resolves.toBe("ended");
  });
});

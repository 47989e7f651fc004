/**
 * Sockets of a container that moves: TCP by IPv4, IPv6 and IPv4 to a socket of IPv6, idle, flowing, with every window full, half closed by
 * either side; UDP bound and connected; UNIX sockets with all that may lie in them. The client counts every byte in both directions.
 * And what cannot move is refused by its name, before anything was touched.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Crashes } from "../support/crash.js";
import { FailureSchema } from "../support/documents.js";
import { useLab } from "../support/lab.js";
import { SocketsClient } from "../support/sockets-client.js";
import { until } from "../support/wait.js";
import { Workload } from "../support/workload.js";

const host = useLab({ memory: "640M" });
/** Three families with four that wait to be accepted, one that must speak before it is, and one that was closed. */
const LOOSE = 18;

/** Why a container cannot move. */
async function reasons(name: string, to = "vm-b"): Promise<string> {
  const refused = await host.lab.mwarp.run(["migrate", name, "--to", to, "--json"]);
  expect(refused.exit).toBe(5);
  const { error } = FailureSchema.parse(JSON.parse(refused.stdout));
  expect(error.code).toBe("MWARP_E_UNSUPPORTED");
  return [error.message, ...error.details].join("\n");
}

describe("a container's connections", () => {
  let sockets: Workload;
  let client: SocketsClient;

  beforeAll(async () => {
    sockets = await Workload.run(host.lab, "vm-a", "sockets", ["sockets"]);
    client = await SocketsClient.start(host.lab);
    await tell("open");
  }, 180_000);
  afterAll(() => client.end());
  const tell = (command: string) => client.tell(command);

  /** The network namespace of the one container. */
  const netnsOf = async (vm: string): Promise<string> =>
    (await host.lab.guest(vm, "ip", "netns")).trim().split(" ")[0] as string;

  it("are all there after a warp, also those that nobody had accepted, and those that it had closed", async () => {
    await tell("wait");
    await sockets.migrate("vm-b");
    await tell("check");
    expect(await tell("accept")).toMatchObject({ settled: LOOSE });
  });

  it("are all there when it comes back with every window full and datagrams that nobody has read", async () => {
    await tell("wait");
    const { waiting } = await tell("hold");
    for (const bytes of waiting as number[]) expect(bytes).toBeGreaterThan(0);
    await sockets.migrate("vm-a");
    await tell("release");
    expect(await tell("accept")).toMatchObject({ settled: LOOSE });
  });

  it("are all there after a move over the network", async () => {
    await tell("wait");
    await sockets.migrate("vm-b", ["--method", "cold"]);
    await tell("check");
    expect(await tell("accept")).toMatchObject({ settled: LOOSE });
  });

  it("are the source's, as they were, when a migration is rolled back, and nothing of them is on the other side", async () => {
    await tell("wait");
    await tell("hold");
    const crashes = new Crashes(host.lab);
    await crashes.begin();
    // All of it has been handed in on the other side by then.
    crashes.arm("fail:populated");
    const end = await crashes.mwarp.run(["migrate", "sockets", "--to", "vm-a"]);
    crashes.disarm();
    // It would be later than the test waits: an IPv6 socket keeps its interface for as long as it tries to send.
    expect(end.exit).toBe(1);
    expect(await sockets.vm()).toBe("vm-b");
    await tell("release");
    expect(await tell("accept")).toMatchObject({ settled: LOOSE });
    await tell("check");
    expect(
      await host.lab.guest(
        "vm-a",
        "sh",
        "-c",
        "ip netns; ip -br link show type veth; dmesg | grep unregister_netdevice || true",
      ),
    ).toBe("");
  });

  it("are made on the other side when a handshake is open, whoever is to speak first", async () => {
    // Down here the container's own kernel hears nothing but requests for connections at these ports.
    const ports = "{ 9003, 9004, 9103, 9104, 9203, 9204 }";
    const deaf = `table inet deaf {
  chain pre {
    type filter hook prerouting priority 0;
    tcp dport ${ports} tcp flags & (syn | ack) == ack drop
  }
}`;
    const inside = ["nsenter", `--net=/run/netns/${await netnsOf("vm-b")}`];
    await host.lab.guest("vm-b", "sh", "-ec", `echo '${deaf}' | ${inside.join(" ")} nft -f -`);
    await tell("knock");
    const open = "ss -Htn state syn-recv";
    expect(
      (await host.lab.guest("vm-b", ...inside, "sh", "-c", open)).split("\n").filter(Boolean),
    ).toHaveLength(6);
    await sockets.migrate("vm-a");
    expect(await tell("enter")).toMatchObject({ settled: 6 });
    await tell("check");
  });

  it("end as both sides say: every byte came, none came twice", async () => {
    const { sums } = await tell("end");
    expect(sums).toHaveLength(12);
    await sockets.verify();
    await sockets.remove();
  });
});

it("UNIX sockets keep their messages, the descriptors on their way, and who waits to be accepted", async () => {
  const unixes = await Workload.run(host.lab, "vm-a", "unixes", ["unixes"]);
  await unixes.migrate("vm-b");
  await unixes.verify();
  await unixes.migrate("vm-a");
  await unixes.verify();
  await unixes.remove();
});

describe("a container is refused by name", () => {
  it("with sockets in a state that cannot move", async () => {
    const { lab } = host;
    const names: Readonly<Record<string, RegExp>> = {
      tls: /pid 1 fd \d+: TCP socket with a protocol above it in the kernel/,
      cork: /pid 1 fd \d+: UDP socket that is corked/,
      "link-local": /pid 1 fd \d+: socket connected to a link-local address/,
      netlink: /pid 1 fd \d+: netlink socket with unread messages/,
      senders: /pid 1 fd \d+: UNIX socket with unread messages and their senders/,
      early: /pid 1 fd \d+: UNIX socket with a connection that has sent before it was accepted/,
      unaccepted:
        /a TCP connection of 127\.0\.0\.1 at port \d+ that nobody has accepted: both ends are in the container/,
      outside: /pid 1 fd \d+: UNIX socket connected to a process outside the container/,
    };
    await lab.guest("vm-a", "modprobe", "tls");
    const argv = ["odd", ...Object.keys(names)];
    const odd = await Workload.start(lab, "vm-a", "odd", argv);
    const socket = "/run/mwarp-guest/containers/odd/bundle/rootfs/tmp/outside";
    const serve = `node -e 'require("net").createServer(() => undefined).listen("${socket}")'`;
    await lab.guest("vm-a", "sh", "-c", `${serve} >/dev/null 2>&1 </dev/null &`);
    const ready = await until(
      "all that is odd",
      async () => (await odd.lines()).find((line) => line.includes("has=")),
      {
        timeoutMs: 60_000,
        intervalMs: 500,
      },
    );
    for (const name of Object.keys(names)) expect(ready).toContain(`${name},`);
    const said = await reasons("odd");
    for (const name of Object.values(names)) expect(said).toMatch(name);
    await odd.verify();
    await odd.remove();
  });

  it("whose ports its VM publishes by NAT, and not once it publishes them no more", async () => {
    const { lab } = host;
    const web = await Workload.run(lab, "vm-a", "web", ["tcpcount", "80"]);
    const { ipv4, ipv6 } = (await web.spec()).network;
    const rules = `table inet published {
  chain pre {
    type nat hook prerouting priority dstnat;
    tcp dport 8080 dnat ip to ${ipv4}:80
    tcp dport 8081 dnat ip6 to [${ipv6?.address}]:80
  }
}`;
    await lab.guest("vm-a", "sh", "-ec", `echo '${rules}' | nft -f -`);
    const said = await reasons("web");
    expect(said).toMatch(
      /its VM publishes port 8080 for it by NAT \(nftables: table inet published, chain pre\)/,
    );
    expect(said).toMatch(/port 8081/);
    await lab.guest("vm-a", "nft", "delete", "table", "inet", "published");
    const plan = await lab.mwarp.run(["migrate", "web", "--to", "vm-b", "--dry-run", "--json"]);
    expect([plan.exit, JSON.parse(plan.stdout).reasons]).toEqual([0, []]);
    await web.remove();
  });
});

/**
 * Sockets of a container that moves: TCP by IPv4, IPv6 and IPv4 to a socket of IPv6, idle, flowing, with every window full, half closed by
 * either side; UDP bound and connected; UNIX sockets with all that may lie in them. The client counts every byte in both directions.
 * And what cannot move is refused by its name, before anything was touched.
 */
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Crashes } from "../support/crash.js";
import { FailureSchema, PsSchema } from "../support/documents.js";
import { useLab } from "../support/lab.js";
import { type LineProcess, startLines } from "../support/lines.js";
import { projectRoot } from "../support/mwarp.js";
import { until } from "../support/wait.js";
import { Workload } from "../support/workload.js";

const host = useLab({ memory: "640M" });
/** Connections that wait to be accepted: three by each family. */
const WAITING = 9;

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
  let client: LineProcess;

  beforeAll(async () => {
    const { lab } = host;
    sockets = await Workload.run(lab, "vm-a", "sockets", ["sockets"]);
    const { namespace } = await lab.status();
    const { containers } = await lab.mwarp.json(PsSchema, ["ps"]);
    const { ipv4, ipv6 } = containers[0];
    const script = path.join(projectRoot, "test/support/sockets-client.mjs");
    const inside = ["nsenter", `--net=/run/netns/${namespace}`] as const;
    client = await startLines([...inside, process.execPath, script, ipv4, ipv6!]);
    await tell("open");
  }, 180_000);
  afterAll(() => client?.[Symbol.asyncDispose]());

  /** Has the client do something, and fails at the first byte that is lost, doubled or late. */
  async function tell(command: string): Promise<Record<string, unknown>> {
    const from = client.lines.length;
    client.send(command);
    const [line] = await client.waitFor(new RegExp(`^.*"did":"${command}".*$`), { from, timeoutMs: 170_000 });
    expect(client.lines.filter((said) => said.includes('"bad"'))).toEqual([]);
    return JSON.parse(line);
  }

  it("keep it where it is while nobody has accepted them, which is said with the port, and only so long", async () => {
    await tell("wait");
    const said = await reasons("sockets");
    for (const port of [9004, 9104, 9204])
      expect(said).toContain(`TCP connections at port ${port} that nobody has accepted`);
    expect(await tell("accept")).toMatchObject({ settled: WAITING });
  });

  it("are all there after a warp", async () => {
    await sockets.migrate("vm-b");
    await tell("check");
  });

  it("are all there when it comes back with every window full", async () => {
    const { waiting } = await tell("hold");
    for (const bytes of waiting as number[]) expect(bytes).toBeGreaterThan(0);
    await sockets.migrate("vm-a");
    await tell("release");
  });

  it("are all there after a move over the network", async () => {
    await sockets.migrate("vm-b", ["--method", "cold"]);
    await tell("check");
  });

  it("are the source's, as they were, when a migration is rolled back, and nothing of them is on the other side", async () => {
    await tell("hold");
    const crashes = new Crashes(host.lab);
    await crashes.begin();
    crashes.arm("fail:populated");
    const end = await crashes.mwarp.run(["migrate", "sockets", "--to", "vm-a"]);
    crashes.disarm();
    // It would be later than the test waits: an IPv6 socket keeps its interface for as long as it tries to send.
    expect(end.exit).toBe(1);
    expect(await sockets.vm()).toBe("vm-b");
    await tell("release");
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

  it("end as both sides say: every byte came, none came twice", async () => {
    const { sums } = await tell("end");
    expect(sums).toHaveLength(9);
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

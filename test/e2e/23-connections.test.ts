/** Sockets of a container that moves: those of UNIX with all that may lie in them, and those that cannot move, refused by name. */
import { describe, expect, it } from "vitest";
import { FailureSchema } from "../support/documents.js";
import { useLab } from "../support/lab.js";
import { until } from "../support/wait.js";
import { Workload } from "../support/workload.js";

const host = useLab({ memory: "640M" });

it("UNIX sockets keep their messages, the descriptors on their way, and who waits to be accepted", async () => {
  const unixes = await Workload.run(host.lab, "vm-a", "unixes", ["unixes"]);
  await unixes.migrate("vm-b");
  await unixes.verify();
  await unixes.migrate("vm-a");
  await unixes.verify();
  await unixes.remove();
});

describe("a container is refused by name", () => {
  async function reasons(name: string): Promise<string> {
    const refused = await host.lab.mwarp.run(["migrate", name, "--to", "vm-b", "--json"]);
    expect(refused.exit).toBe(5);
    const { error } = FailureSchema.parse(JSON.parse(refused.stdout));
    expect(error.code).toBe("MWARP_E_UNSUPPORTED");
    return [error.message, ...error.details].join("\n");
  }

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
    await lab.mwarp.ok(["run", "--vm", "vm-a", "--name", "odd", "--rootfs", lab.rootfs, "--", ...argv]);
    const socket = "/run/mwarp-guest/containers/odd/bundle/rootfs/tmp/outside";
    const serve = `node -e 'require("net").createServer(() => undefined).listen("${socket}")'`;
    await lab.guest("vm-a", "sh", "-c", `${serve} >/dev/null 2>&1 </dev/null &`);
    const odd = new Workload(lab, "odd");
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

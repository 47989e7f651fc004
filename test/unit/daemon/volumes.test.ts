/** Named volumes of all VMs, by the daemon's API. */
import { describe, expect, it } from "vitest";
import { DaemonClient } from "../../../src/daemon/client.js";
import { plainContainer } from "../../../src/protocol/api.js";
import { moveWeb } from "../../support/requests.js";
import { FakeHost, serve } from "./fakes.js";

/** `store` rests in vm-a and is a container's in vm-b; `kept` rests in vm-a. */
function twoVms(): FakeHost {
  const host = new FakeHost("vm-a", "vm-b");
  host
    .guest("vm-a")
    .volumes.push({ name: "store", container: null, bytes: 3 }, { name: "kept", container: null, bytes: 1 });
  host.guest("vm-b").volumes.push({ name: "store", container: "db", bytes: 2 });
  return host;
}

const asked = (host: FakeHost, vm: string): string[] =>
  host
    .guest(vm)
    .calls.filter(({ method }) => method === "volume.remove")
    .map(({ params }) => JSON.stringify(params));

describe("volumes", () => {
  it("are listed with where they are and whose they are, and a VM that does not answer is named", async () => {
    const host = twoVms();
    host.add("vm-c").state = "silent";
    await using test = await serve(host);
    const { volumes, unreachable } = await new DaemonClient(test.socket).volumes();
    expect(volumes.map(({ name, vm, container }) => [name, vm, container])).toEqual([
      ["kept", "vm-a", null],
      ["store", "vm-a", null],
      ["store", "vm-b", "db"],
    ]);
    expect(unreachable).toMatchObject([{ vm: "vm-c", error: { code: "MWARP_E_AGENT_UNREACHABLE" } }]);
  });

  it("are removed where they are, when nobody has them and it is clear which is meant", async () => {
    const host = twoVms();
    await using test = await serve(host);
    const client = new DaemonClient(test.socket);
    await expect(client.removeVolume("none", null)).rejects.toMatchObject({ code: "MWARP_E_VOLUME_UNKNOWN" });
    await expect(client.removeVolume("kept", "vm-b")).rejects.toMatchObject({
      code: "MWARP_E_VOLUME_UNKNOWN",
    });
    await expect(client.removeVolume("store", null)).rejects.toMatchObject({
      code: "MWARP_E_NAME_TAKEN",
      message: expect.stringContaining("vm-a and vm-b"),
    });
    await expect(client.removeVolume("store", "vm-b")).rejects.toMatchObject({
      code: "MWARP_E_BUSY",
      hint: expect.stringContaining("mwarp rm --volumes db"),
    });
    expect([asked(host, "vm-a"), asked(host, "vm-b")]).toEqual([[], []]);
    expect(await client.removeVolume("store", "vm-a")).toMatchObject({ name: "store", vm: "vm-a" });
    expect([asked(host, "vm-a"), asked(host, "vm-b")]).toEqual([['{"name":"store"}'], []]);
  });

  it("are not given to a container where another has one of that name, or another VM keeps one", async () => {
    const host = new FakeHost("vm-a", "vm-b");
    host.guest("vm-a").volumes.push({ name: "kept", container: null, bytes: 1 });
    host.guest("vm-b").volumes.push({ name: "store", container: "db", bytes: 2 });
    await using test = await serve(host);
    const client = new DaemonClient(test.socket);
    const run = (vm: string, name: string) =>
      client.run({
        ...plainContainer(moveWeb().container, vm, process.cwd(), ["/bin/mwarp"]),
        volumes: [{ kind: "named", name, destination: "/data", readOnly: false }],
      });
    await expect(run("vm-a", "store")).rejects.toMatchObject({
      code: "MWARP_E_BUSY",
      message: expect.stringContaining("db's on vm-b"),
    });
    await expect(run("vm-b", "kept")).rejects.toMatchObject({
      code: "MWARP_E_NAME_TAKEN",
      message: expect.stringContaining("is on vm-a"),
    });
    expect((await run("vm-a", "kept")).vm).toBe("vm-a");
  });
});

/**
 * The network fence (I9), seen from the bridge: what leaves the two VMs with the container's hardware address. At any time
 * from one side only, and never a RST or FIN, whatever becomes of the migration. Somebody asks for its addresses all the
 * while, IPv4 and IPv6: the kernel that has them answers even for a frozen container.
 */
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { State } from "../../src/migration/states.js";
import { Crashes, freezerIn, killVmm, type Program, type Side } from "../support/crash.js";
import { PsSchema } from "../support/documents.js";
import { useLab } from "../support/lab.js";
import { type LineProcess, startLines } from "../support/lines.js";
import { projectRoot } from "../support/mwarp.js";
import { Workload } from "../support/workload.js";

const long = process.env.MWARP_TEST_LONG === "1";
/** For so long nobody types a command after the daemon's death. */
const UNATTENDED_MS = 8_000;
/** ICMP's "host unreachable" and "no route", and the "port unreachable" that answers who knocks (RFC 792, RFC 4443). */
const NO_WAY = ["ip4 icmp 3/1", "ip6 icmp 1/0"];
const PORT_UNREACHABLE = ["ip4 icmp 3/3", "ip6 icmp 1/4"];
/** An answer to who asks for an IPv6 address (RFC 4861). */
const ADVERTISED = "ip6 icmp 136/0";
const host = useLab({ memory: "512M" });
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");
const tap = (vm: string): string => vm.replace("vm-", "tap-");

describe("on the bridge, a container with an open connection is seen", () => {
  let crashes: Crashes;
  let who: Workload;
  let capture: LineProcess;
  /** One by IPv4, one by IPv6. */
  let clients: readonly LineProcess[];
  let knocker: LineProcess;

  beforeAll(async () => {
    const { lab } = host;
    who = await Workload.run(lab, "vm-a", "who", ["tcpcount", "9000"]);
    const { namespace } = await lab.status();
    const { containers } = await lab.mwarp.json(PsSchema, ["ps"]);
    const { ipv4, ipv6, mac } = containers[0];
    const addresses = [ipv4, ipv6!];
    const inside = ["nsenter", `--net=/run/netns/${namespace}`] as const;
    const program = path.join(projectRoot, "dist/test-support/capture");
    capture = await startLines([...inside, program, mac, "tap-a", "tap-b"]);
    await capture.waitFor(/capture ready/);
    const count = path.join(projectRoot, "test/support/count-client.mjs");
    clients = await Promise.all(
      addresses.map((address) => startLines([...inside, process.execPath, count, address, "9000"])),
    );
    for (const client of clients) await client.waitFor(/connected/);
    const knock = path.join(projectRoot, "test/support/knock.mjs");
    knocker = await startLines([...inside, process.execPath, knock, ...addresses]);
    await knocker.waitFor(/knocking/);
    for (const kind of PORT_UNREACHABLE) await capture.waitFor(new RegExp(kind), { timeoutMs: 20_000 });
    crashes = new Crashes(lab);
    await crashes.begin();
  });
  beforeEach(() => crashes.disarm());
  afterAll(async () => {
    await knocker[Symbol.asyncDispose]();
    for (const client of clients) await client[Symbol.asyncDispose]();
    await capture[Symbol.asyncDispose]();
  });

  /**
   * Lets both clients get answers again, then gives what was captured since line `from`. Data from the container would not
   * do for a sign: it may be an old answer sent again, while the client's request still waits for the client's own TCP.
   */
  async function framesSince(from: number): Promise<readonly string[]> {
    await Promise.all(
      clients.map(async (client) => {
        const now = client.lines.length;
        client.send("next");
        await client.waitFor(/"next"|"error"/, { from: now, timeoutMs: 130_000 });
      }),
    );
    return capture.lines.slice(from);
  }

  const sidesOf = (frames: readonly string[]): readonly string[] =>
    frames.map((frame) => frame.split(" ")[0]).filter((side, index, all) => side !== all[index - 1]);

  /** One side after the other, without going back, and nothing that ends a connection. */
  function expectSides(frames: readonly string[], ...sides: readonly string[]): void {
    expect(sidesOf(frames)).toEqual(sides);
    expect(frames.filter((frame) => /tcp \w*[RF]/.test(frame))).toEqual([]);
  }

  it.each(["warp", "cold"])("on one side, then on the other, when it moves by %s", async (method) => {
    const from = await who.vm();
    const start = capture.lines.length;
    await who.migrate(other(from), ["--method", method]);
    const frames = await framesSince(start);
    expectSides(frames, tap(from), tap(other(from)));
    // Bridges are told where it is, and after a warp the clients are asked to send again at once (native/guest/wake.c).
    expect(frames).toContain(`${tap(other(from))} ${ADVERTISED} unasked`);
    const asked = frames.filter((frame) => NO_WAY.some((kind) => frame.endsWith(kind)));
    expect([...new Set(asked)].sort()).toEqual(
      method === "warp" ? NO_WAY.map((kind) => `${tap(other(from))} ${kind}`) : [],
    );
  });

  it("on its own side only, when the migration is rolled back at the last moment", async () => {
    const from = await who.vm();
    const start = capture.lines.length;
    crashes.arm("fail:populated");
    expect((await crashes.mwarp.run(["migrate", "who", "--to", other(from)])).exit).not.toBe(0);
    expectSides(await framesSince(start), tap(from));
  });

  it.each([
    ["on its own side only, when its daemon dies before the commit", "held", "source"],
    ["on one side, then on the other, when its daemon dies after the commit", "committed", "destination"],
  ] as const)("%s, whether or not anybody types a command", async (_, state, owner) => {
    const from = await who.vm();
    const to = other(from);
    const [stays, sides] = owner === "source" ? [to, [from]] : [from, [from, to]];
    const start = capture.lines.length;
    crashes.arm(`kill:${state}`);
    expect((await crashes.mwarp.run(["migrate", "who", "--to", to])).exit).toBe(8);
    crashes.disarm();
    // Nobody runs, or whoever the journal names: on the other side nothing is let go.
    const seen = new Set<string | null>();
    for (const until = performance.now() + UNATTENDED_MS; performance.now() < until; await sleep(500))
      seen.add(await freezerIn(host.lab, stays, "who"));
    expect([...seen]).not.toContain("runs");
    if (crashes.lastState() === state) {
      expect([...seen]).toContain("frozen");
      expect(await freezerIn(host.lab, owner === "source" ? from : to, "who")).toBe("frozen");
    }
    const unattended = sidesOf(capture.lines.slice(start));
    expect(sides.map(tap).join(" ")).toContain(unattended.join(" "));
    await crashes.settle();
    expectSides(await framesSince(start), ...sides.map(tap));
  });

  const deaths: [Program, Side, State][] = [
    ["criu", "destination", "held"],
    ["agent", "destination", "committed"],
    ["agent", "source", "held"],
    ["agent", "destination", "held"],
    ["criu", "source", "held"],
    ["agent", "source", "committed"],
    ["criu", "destination", "committed"],
    ["criu", "source", "committed"],
  ];
  it.each(long ? deaths : deaths.slice(0, 2))(
    "never on the wrong side, when %s on the %s dies in the state %s",
    async (program, side, state) => {
      const from = await who.vm();
      const start = capture.lines.length;
      const migration = await crashes.startAndHold(["who", "--to", other(from)], state);
      await crashes.killIn(side === "source" ? from : other(from), program, "one at least");
      migration.release();
      await migration.finished;
      await crashes.settle();
      const now = await who.vm();
      expectSides(await framesSince(start), ...(now === from ? [from] : [from, now]).map(tap));
    },
  );

  it("on its own side only, when Ctrl-C ends its migration", async () => {
    const from = await who.vm();
    const start = capture.lines.length;
    const migration = await crashes.startAndHold(["who", "--to", other(from)], "populated");
    migration.process.kill("SIGINT");
    await migration.seen(/will be rolled back/);
    // It is told at once, and asked for a moment later.
    await crashes.mwarp.ok(["ps"]);
    migration.release();
    expect((await migration.finished).exit).toBe(7);
    expectSides(await framesSince(start), tap(from));
  });

  it("by IPv4 and IPv6", () => {
    for (const kind of [...PORT_UNREACHABLE, ADVERTISED, "arp reply"])
      expect(
        new Set(capture.lines.filter((line) => line.endsWith(kind)).map((line) => line.split(" ")[0])).size,
      ).toBe(2);
  });

  it("on the other side alone, when its VM is killed after the commit", async () => {
    const from = await who.vm();
    const vmm = await crashes.vmPid(from);
    const start = capture.lines.length;
    const migration = await crashes.startAndHold(["who", "--to", other(from)], "committed");
    await killVmm(vmm);
    migration.release();
    await migration.finished;
    await crashes.settle();
    expectSides(await framesSince(start), tap(from), tap(other(from)));
  });

  it("by its client as if nothing had been: no answer lost, none twice", async () => {
    for (const client of clients) {
      client.endInput();
      const [text] = await client.waitFor(/\{"answers".*/);
      expect(JSON.parse(text)).toMatchObject({ error: null });
    }
  });
});

/**
 * The network fence (I9), seen from the bridge: what leaves the two VMs with the container's hardware address. At any time
 * from one side only, and never a RST or FIN, whatever becomes of the migration.
 */
import path from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Crashes } from "../support/crash.js";
import { PsSchema } from "../support/documents.js";
import { useLab } from "../support/lab.js";
import { type LineProcess, startLines } from "../support/lines.js";
import { projectRoot } from "../support/mwarp.js";
import { Workload } from "../support/workload.js";

const host = useLab({ memory: "512M" });
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");
const tap = (vm: string): string => vm.replace("vm-", "tap-");

describe("on the bridge, a container with an open connection is seen", () => {
  let crashes: Crashes;
  let who: Workload;
  let capture: LineProcess;
  let client: LineProcess;

  beforeAll(async () => {
    const { lab } = host;
    who = await Workload.run(lab, "vm-a", "who", ["tcpcount", "9000"]);
    const { namespace } = await lab.status();
    const { containers } = await lab.mwarp.json(PsSchema, ["ps"]);
    const { ipv4, mac } = containers[0];
    const inside = ["nsenter", `--net=/run/netns/${namespace}`] as const;
    const program = path.join(projectRoot, "dist/test-support/capture");
    capture = await startLines([...inside, program, mac, "tap-a", "tap-b"]);
    await capture.waitFor(/capture ready/);
    const count = path.join(projectRoot, "test/support/count-client.mjs");
    client = await startLines([...inside, process.execPath, count, ipv4, "9000"]);
    await client.waitFor(/connected/);
    crashes = new Crashes(lab);
    await crashes.begin();
  });
  beforeEach(() => crashes.disarm());
  afterAll(async () => {
    await client[Symbol.asyncDispose]();
    await capture[Symbol.asyncDispose]();
  });

  /**
   * Lets the client get answers again, then gives what was captured since line `from`. Data from the container would not
   * do for a sign: it may be an old answer sent again, while the client's request still waits for the client's own TCP.
   */
  async function framesSince(from: number): Promise<readonly string[]> {
    const now = client.lines.length;
    client.send("next");
    await client.waitFor(/"next"|"error"/, { from: now, timeoutMs: 130_000 });
    return capture.lines.slice(from);
  }

  /** One side after the other, without going back, and nothing that ends a connection. */
  function expectSides(frames: readonly string[], ...sides: readonly string[]): void {
    const seen = frames.map((frame) => frame.split(" ")[0]);
    expect(seen.filter((side, index) => side !== seen[index - 1])).toEqual(sides);
    expect(frames.filter((frame) => /tcp \w*[RF]/.test(frame))).toEqual([]);
  }

  it.each(["warp", "cold"])("on one side, then on the other, when it moves by %s", async (method) => {
    const from = await who.vm();
    const start = capture.lines.length;
    await who.migrate(other(from), ["--method", method]);
    expectSides(await framesSince(start), tap(from), tap(other(from)));
  });

  it("on its own side only, when the migration is rolled back at the last moment", async () => {
    const from = await who.vm();
    const start = capture.lines.length;
    crashes.arm("fail:populated");
    expect((await crashes.mwarp.run(["migrate", "who", "--to", other(from)])).exit).not.toBe(0);
    expectSides(await framesSince(start), tap(from));
  });

  it("on its own side only, when the daemon dies before the commit", async () => {
    const from = await who.vm();
    const start = capture.lines.length;
    crashes.arm("kill:held");
    expect((await crashes.mwarp.run(["migrate", "who", "--to", other(from)])).exit).toBe(8);
    await crashes.settle();
    expectSides(await framesSince(start), tap(from));
  });

  it("on one side, then on the other, when the daemon dies after the commit", async () => {
    const from = await who.vm();
    const start = capture.lines.length;
    crashes.arm("kill:committed");
    expect((await crashes.mwarp.run(["migrate", "who", "--to", other(from)])).exit).toBe(8);
    await crashes.settle();
    expectSides(await framesSince(start), tap(from), tap(other(from)));
  });

  it("by its client as if nothing had been: no answer lost, none twice", async () => {
    client.endInput();
    const [text] = await client.waitFor(/\{"answers".*/);
    expect(JSON.parse(text)).toMatchObject({ error: null });
  });
});

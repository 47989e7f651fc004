/** The floor of a downtime: the process that notes when it did not run, and what becomes of what the guest says. */
import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { measureFloor, readFloor } from "../../../src/bench/floor.js";
import type { DaemonClient } from "../../../src/daemon/client.js";
import { startLines } from "../../support/lines.js";
import { projectRoot } from "../../support/mwarp.js";

const program = path.join(projectRoot, "dist/native/mwarp-bench-gap");
const signal = AbortSignal.timeout(60_000);

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "mwarp-floor-"));
});
afterAll(() => rm(folder, { recursive: true }));

describe("the process whose standstill is measured", () => {
  it("notes how long it did not run, and from when", async () => {
    const file = path.join(folder, "gaps");
    await using running = await startLines([program, "watch", file, String(1024 ** 2)]);
    await sleep(200);
    const before = Date.now();
    process.kill(running.pid, "SIGSTOP");
    await sleep(700);
    process.kill(running.pid, "SIGCONT");
    const after = Date.now();
    await sleep(200);
    const gaps = (await readFile(file, "utf8"))
      .trimEnd()
      .split("\n")
      .map((line) => line.split(" ").map(Number));
    const [from, ns] = gaps.toSorted(([, a], [, b]) => b - a)[0];
    expect(ns / 1e6).toBeGreaterThan(690);
    // A busy machine may let it run late, but not before it was stopped.
    expect(from / 1e6).toBeLessThan(after);
    expect((from + ns) / 1e6).toBeGreaterThan(before + 700);
  });

  it.each([[], ["watch", "file"], ["watch", "file", "1"], ["watch", "file", "many"]])(
    "refuses %j",
    (...argv) => {
      expect(spawnSync(program, argv).status).toBe(2);
    },
  );
});

const SECOND = 1_000_000_000n;
const BEGIN = 1_800_000_000n * SECOND;
/** All in ms: what the guest says of two commands that took 1.4 s by both clocks, or by the wall's as told. */
const said = (gaps: readonly (readonly [from: number, ms: number])[], wall = 1400): string =>
  [
    `before ${BEGIN} ${5n * SECOND}`,
    `after ${BEGIN + BigInt(wall) * 1_000_000n} ${5n * SECOND + 1_400_000_000n}`,
    ...gaps.map(([from, ms]) => `gap ${BEGIN + BigInt(from) * 1_000_000n} ${BigInt(ms) * 1_000_000n}`),
    "",
  ].join("\n");

describe("what the guest says of the floor", () => {
  it("gives the longest time in which the process did not run since the measured checkpoint was asked for", () => {
    const gaps = [
      [-4000, 3000],
      [200, 12],
      [300, 1050],
      [1390, 20],
      [2000, 1200],
    ] as const;
    expect(readFloor(said(gaps))).toEqual({ frozen_ms: 1050, commands_ms: 1400 });
  });

  it("may end after runc has: the process runs only when it is its turn", () => {
    expect(readFloor(said([[900, 510]])).frozen_ms).toBe(510);
  });

  it.each([
    ["the process noted nothing", said([[-4000, 3000]]), /no time in which it did not run/],
    ["the clock was set meanwhile", said([[300, 1000]], 1500), /clock was set/],
    ["there are no clocks", "gap 1 2\n", /did not say when/],
  ])("gives no figure when %s", (_, text, reason) => {
    expect(() => readFloor(text)).toThrow(reason);
  });
});

/** A VM in which one of the commands fails; the names of those that ran. */
function vmOf(
  answers: (script: string) => { readonly status: number; readonly out?: string; readonly err?: string },
) {
  const ran: string[] = [];
  const execInVm: DaemonClient["execInVm"] = async (_vm, argv, io) => {
    const script = argv[2];
    ran.push(
      /runc .* checkpoint/.test(script) ? "measure" : /config.json/.test(script) ? "prepare" : "clear",
    );
    const { status, out = "", err = "" } = answers(script);
    await io.write(1, Buffer.from(out));
    await io.write(2, Buffer.from(err));
    return status;
  };
  const measure = () => measureFloor({ daemon: { execInVm }, vm: "vm-a", backing: "4k", round: 3, signal });
  return { ran, measure };
}

describe("measuring the floor", () => {
  it("leaves nothing in the VM, and has found nothing there", async () => {
    const { ran, measure } = vmOf(() => ({ status: 0, out: said([[300, 900]]) }));
    expect(await measure()).toMatchObject({ kind: "floor", vm: "vm-a", round: 3, frozen_ms: 900 });
    expect(ran).toEqual(["clear", "prepare", "measure", "clear"]);
  });

  it("clears up after a failure, and says what runc and CRIU said", async () => {
    const { ran, measure } = vmOf((script) =>
      /runc .* checkpoint/.test(script)
        ? { status: 1, err: "Error (criu/x.c): no\nrunc checkpoint failed\n" }
        : { status: 0 },
    );
    await expect(measure()).rejects.toMatchObject({
      code: "MWARP_E_LAB",
      details: ["Error (criu/x.c): no", "runc checkpoint failed"],
    });
    expect(ran).toEqual(["clear", "prepare", "measure", "clear"]);
  });
});

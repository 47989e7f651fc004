/**
 * An agent in somebody else's hands: whatever it answers, it harms nobody but its own VM. The container on the honest side
 * keeps every byte, so do the neighbours there, and the daemon lives.
 */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { MigrationReportSchema } from "../../src/protocol/migration.js";
import { DaemonStatusSchema } from "../support/documents.js";
import { useLab } from "../support/lab.js";
import { flood, garbage, interpose, type Lie, type LyingAgent, silence } from "../support/lying-agent.js";
import { Workload } from "../support/workload.js";

const MIB = 1024 * 1024;
/** The daemon may hold one VM's worth of what an agent sends, and no more. */
const DAEMON_LIMIT = 1400 * MIB;
const host = useLab({ memory: "512M" });

type Json = Record<string, unknown>;
type Root = { pid: number; nsPid: number; rootGpa: number; taskAddress: string };

/** Changes the answers to one method. */
const instead =
  (of: string, change: (result: Json) => unknown): Lie =>
  (method, result) =>
    method === of ? change(result as Json) : result;
const roots = (of: string, change: (root: Root) => Partial<Root>): Lie =>
  instead(of, (result) => ({
    ...result,
    roots: (result.roots as Root[]).map((root) => ({ ...root, ...change(root) })),
  }));
const infoLie = (change: Json): Lie => instead("info", (result) => ({ ...result, ...change }));

const destinationLies: readonly (readonly [string, Lie])[] = [
  ["a page-table root outside its memory", roots("destination.restore", () => ({ rootGpa: 2 ** 40 }))],
  [
    "the root of something else",
    roots("destination.restore", ({ rootGpa }) => ({ rootGpa: rootGpa + 4096 })),
  ],
  [
    "another task's address",
    roots("destination.restore", ({ taskAddress }) => ({ taskAddress: `${BigInt(taskAddress) + 64n}` })),
  ],
  ["a task's address that is none", roots("destination.restore", () => ({ taskAddress: "12; rm -rf /" }))],
  ["no tasks at all", instead("destination.restore", (result) => ({ ...result, roots: [] }))],
  ["a kernel root outside its memory", infoLie({ kernelRootGpa: 2 ** 50 })],
  ["bytes that are no frame", instead("destination.restore", () => garbage)],
  ["a form nobody knows", instead("destination.restore", () => [1, "two", null])],
  ["nothing, until the time is up", instead("destination.restore", () => silence)],
];

const sourceLies: readonly (readonly [string, Lie])[] = [
  ["a page-table root outside its memory", roots("source.dump", () => ({ rootGpa: 2 ** 40 }))],
  [
    "struct pages in nowhere",
    infoLie({
      structPage: {
        vmemmapBase: "18446741874686296064",
        bytes: 8,
        flagsOffset: 0,
        compoundHeadOffset: 8,
        mappingOffset: 24,
        refcountOffset: 52,
      },
    }),
  ],
  [
    "image files that lead out of their directory",
    instead("source.dump", (result) => ({ ...result, files: [{ name: "../../etc/passwd", bytes: 1 }] })),
  ],
  [
    "image files of a size that cannot be",
    instead("source.dump", (result) => ({
      ...result,
      files: (result.files as Json[]).map((file) => ({ ...file, bytes: 2 ** 50 })),
    })),
  ],
  ["chunks without end", instead("source.dump", () => flood)],
];

/** Every other lie, unless there is time for all. */
const isTold = (_: unknown, index: number): boolean => process.env.MWARP_TEST_LONG === "1" || index % 2 === 0;

describe("a lying agent", () => {
  let liars: Readonly<Record<string, LyingAgent>> = {};
  let honest: Workload;
  let near: Workload;
  let daemonPid = 0;

  beforeAll(async () => {
    const { lab } = host;
    honest = await Workload.run(lab, "vm-a", "honest", ["pattern", "24", "thp"]);
    near = await Workload.run(lab, "vm-a", "near", ["neighbour", "8", "thp"]);
    await lab.mwarp.ok(["daemon", "stop"]);
    liars = await interpose(lab);
    await lab.ready();
    ({ pid: daemonPid } = await lab.mwarp.json(DaemonStatusSchema, ["daemon", "status"]));
  });
  beforeEach(() => {
    for (const liar of Object.values(liars)) liar.lie = null;
  });
  afterAll(async () => {
    for (const liar of Object.values(liars)) await liar[Symbol.asyncDispose]();
  });

  async function expectUnharmed(from: string): Promise<void> {
    for (const liar of Object.values(liars)) liar.lie = null;
    await host.lab.mwarp.ok(["recover"]);
    expect(await honest.vm()).toBe(from);
    await honest.verify();
    await near.verify();
    const { pid } = await host.lab.mwarp.json(DaemonStatusSchema, ["daemon", "status"]);
    expect(pid).toBe(daemonPid);
    const peak = Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
    expect(peak).toBeLessThan(DAEMON_LIMIT);
  }

  async function migrate(to: string, limit = "12s"): Promise<string> {
    const args = ["migrate", "honest", "--to", to, "--timeout", limit, "--json"];
    return MigrationReportSchema.parse(JSON.parse((await host.lab.mwarp.run(args)).stdout)).outcome;
  }

  it.each(destinationLies.filter(isTold))(
    "of the destination that answers %s changes nothing at the source",
    async (_, lie) => {
      liars["vm-b"].lie = lie;
      expect(await migrate("vm-b")).not.toBe("committed");
      await expectUnharmed("vm-a");
    },
  );

  it.each(sourceLies.filter(isTold))(
    "of the source that answers %s gets nothing of the destination",
    async (_, lie) => {
      liars["vm-a"].lie = lie;
      const outcome = await migrate("vm-b");
      expect(outcome).not.toBe("committed");
      await expectUnharmed("vm-a");
    },
  );

  it("that tells the truth again can be worked with", async () => {
    expect(await migrate("vm-b", "100s")).toBe("committed");
    await expectUnharmed("vm-b");
  });
});

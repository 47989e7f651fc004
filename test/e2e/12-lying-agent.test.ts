/**
 * An agent in somebody else's hands: whatever it answers, it harms nobody but its own VM. The container on the honest side
 * keeps every byte, so do the neighbours there, and the daemon lives.
 */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type MigrationReport, MigrationReportSchema } from "../../src/protocol/migration.js";
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
const instead = (of: string, change: (result: Json) => unknown): Lie => ({
  answer: (method, result) => (method === of ? change(result as Json) : result),
});
const add = (of: string, change: Json): Lie => instead(of, (result) => ({ ...result, ...change }));
const roots = (of: string, change: (root: Root) => Partial<Root>): Lie =>
  instead(of, (result) => ({
    ...result,
    roots: (result.roots as Root[]).map((root) => ({ ...root, ...change(root) })),
  }));

/** `anything` where the host does not build on what the lie is about. */
interface Told {
  readonly what: string;
  readonly lie: Lie;
  readonly outcome?: "anything";
  /** Only for the long form: it is found out late, or not at all. */
  readonly slow?: true;
  /** For a migration that only its time limit ends. */
  readonly limit?: string;
}
const MANY = 100_000;
const most = Number.MAX_SAFE_INTEGER;

const endless = {
  nsPid: 1,
  page: 16,
  pages: 2 ** 35,
  commit: "reserve",
  hugePages: "default",
  hugeBytes: 0,
  fills: [{ page: 16, pages: 2 ** 34 }],
};

const destinationLies: readonly Told[] = [
  {
    what: "a page-table root outside its memory",
    lie: roots("destination.restore", () => ({ rootGpa: 2 ** 40 })),
  },
  {
    what: "the root of something else",
    lie: roots("destination.restore", ({ rootGpa }) => ({ rootGpa: rootGpa + 4096 })),
    slow: true,
  },
  {
    what: "another task's address",
    lie: roots("destination.restore", ({ taskAddress }) => ({ taskAddress: `${BigInt(taskAddress) + 64n}` })),
  },
  {
    what: "a task's address that is none",
    lie: roots("destination.restore", () => ({ taskAddress: "12; rm -rf /" })),
    slow: true,
  },
  {
    what: "tasks by other names",
    lie: roots("destination.restore", ({ nsPid }) => ({ nsPid: nsPid + 1 })),
    slow: true,
  },
  { what: "no tasks at all", lie: add("destination.restore", { roots: [] }) },
  { what: "a kernel root outside its memory", lie: add("info", { kernelRootGpa: 2 ** 50 }), slow: true },
  {
    what: "memory without end",
    lie: add("info", { memAvailableBytes: most }),
    outcome: "anything",
    slow: true,
  },
  { what: "bytes that are no frame", lie: instead("destination.restore", () => garbage) },
  { what: "a form nobody knows", lie: instead("destination.restore", () => [1, "two", null]), slow: true },
  {
    what: "that all pages are there, when none is",
    lie: { withheld: ["destination.populate"], answer: (_, result) => result ?? { pages: most } },
    outcome: "anything",
  },
  {
    what: "that it has the images, when it has not",
    lie: { withheld: ["destination.images"], answer: (_, result) => result ?? {} },
    slow: true,
  },
  {
    what: "that memory is staged, when none is",
    lie: add("destination.staged", { pages: most }),
    outcome: "anything",
  },
  {
    what: "nothing, until the time is up",
    lie: instead("destination.restore", () => silence),
    limit: "12s",
  },
];

const sourceLies: readonly Told[] = [
  {
    what: "a page-table root outside its memory",
    lie: roots("source.dump", () => ({ rootGpa: 2 ** 40 })),
  },
  {
    what: "tasks by other names",
    lie: roots("source.dump", ({ nsPid }) => ({ nsPid: nsPid + 1 })),
    slow: true,
  },
  {
    what: "struct pages in nowhere",
    lie: add("info", {
      structPage: {
        vmemmapBase: "18446741874686296064",
        bytes: 8,
        flagsOffset: 0,
        compoundHeadOffset: 8,
        mappingOffset: 24,
        refcountOffset: 52,
      },
    }),
    slow: true,
  },
  {
    what: "that it froze somebody else",
    lie: add("source.freeze", { tasks: [{ pid: 1, nsPid: 1 }] }),
    outcome: "anything",
    slow: true,
  },
  {
    what: "image files that lead out of their directory",
    lie: add("source.dump", { files: [{ name: "../../etc/passwd", bytes: 1 }] }),
  },
  {
    what: "image files of a size that cannot be",
    lie: instead("source.dump", (result) => ({
      ...result,
      files: (result.files as Json[]).map((file) => ({ ...file, bytes: 2 ** 50 })),
    })),
  },
  {
    what: "images whose bytes were changed",
    lie: {
      data: (method, payload) =>
        method === "source.dump" ? payload.map((byte, at) => (at % 7 === 3 ? byte ^ 0x5a : byte)) : payload,
    },
  },
  {
    what: "less memory than it has a right to name",
    lie: { data: (method, payload) => (method === "source.readPages" ? payload.subarray(1) : payload) },
    slow: true,
  },
  {
    what: "a container as large as can be said",
    lie: add("source.inspect", { anonymousBytes: most, memoryBytes: most, writableLayerBytes: most }),
  },
  { what: "a size that is none", lie: add("source.inspect", { anonymousBytes: 2 ** 53 }), slow: true },
  {
    what: "a hundred thousand reasons",
    lie: add("source.inspect", {
      unsupported: Array.from({ length: MANY }, (_, fd) => `pid 7 fd ${fd}: KVM`),
    }),
  },
  {
    what: "a hundred thousand tasks",
    lie: add("source.inspect", {
      tasks: Array.from({ length: MANY }, (_, pid) => ({ pid, nsPid: pid })),
    }),
    outcome: "anything",
    slow: true,
  },
  {
    what: "memory without end that is to be staged",
    lie: instead("source.stageable", () => ({ mappings: [endless] })),
    outcome: "anything",
  },
  { what: "chunks without end", lie: instead("source.dump", () => flood) },
];

/** All that are found out early, and of the others a few, unless there is time for all. */
const told = (lies: readonly Told[]): readonly Told[] =>
  lies.filter(({ slow }) => process.env.MWARP_TEST_LONG === "1" || !slow);

describe("a lying agent", () => {
  let liars: Readonly<Record<string, LyingAgent>> = {};
  let honest: Workload;
  /** In both VMs, and those in the VM that did not lie must never notice. */
  let neighbours: readonly Workload[] = [];
  let daemonPid = 0;

  beforeAll(async () => {
    const { lab } = host;
    honest = await Workload.run(lab, "vm-a", "honest", ["pattern", "24", "thp"]);
    neighbours = [
      await Workload.run(lab, "vm-a", "near", ["neighbour", "8", "thp"]),
      await Workload.run(lab, "vm-b", "far", ["neighbour", "8", "thp"]),
      await Workload.run(lab, "vm-b", "kernel", ["kmem", "4", "/tmp"]),
    ];
    for (const neighbour of neighbours) await neighbour.giveWay();
    await lab.mwarp.ok(["daemon", "stop"]);
    liars = await interpose(lab);
    await lab.ready();
    ({ pid: daemonPid } = await lab.mwarp.json(DaemonStatusSchema, ["daemon", "status"]));
  });
  const allHonest = (): void => {
    for (const liar of Object.values(liars)) liar.lie = null;
  };
  beforeEach(allHonest);
  afterAll(async () => {
    for (const liar of Object.values(liars)) await liar[Symbol.asyncDispose]();
  });

  /** Gives the VM where the container is. */
  async function expectUnharmed(): Promise<string> {
    allHonest();
    await host.lab.mwarp.ok(["recover"]);
    const vm = await honest.vm();
    await Promise.all([honest, ...neighbours].map((workload) => workload.verify()));
    const { pid } = await host.lab.mwarp.json(DaemonStatusSchema, ["daemon", "status"]);
    expect(pid).toBe(daemonPid);
    const peak = Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
    expect(peak).toBeLessThan(DAEMON_LIMIT);
    return vm;
  }

  async function migrate(to: string, limit = "100s"): Promise<MigrationReport> {
    const args = ["migrate", "honest", "--to", to, "--timeout", limit, "--json"];
    return MigrationReportSchema.parse(JSON.parse((await host.lab.mwarp.run(args)).stdout));
  }

  /** The next lie is about a container on vm-a again. */
  async function bringBack(): Promise<void> {
    if ((await honest.vm()) !== "vm-a") await honest.migrate("vm-a");
  }

  it.each(told(destinationLies))(
    "of the destination that answers $what changes nothing at the source",
    async ({ lie, outcome, limit }) => {
      liars["vm-b"].lie = lie;
      const report = await migrate("vm-b", limit);
      if (outcome !== "anything") expect(report.outcome).not.toBe("committed");
      // It was the lie that ended it.
      if (limit === undefined) expect(report.error?.code).not.toBe("MWARP_E_TIMEOUT");
      expect(await expectUnharmed()).toBe(report.outcome === "committed" ? "vm-b" : "vm-a");
      await bringBack();
    },
  );

  it.each(told(sourceLies))(
    "of the source that answers $what gets nothing of the destination",
    async ({ lie, outcome, limit }) => {
      liars["vm-a"].lie = lie;
      const report = await migrate("vm-b", limit);
      if (outcome !== "anything") expect(report.outcome).not.toBe("committed");
      // It was the lie that ended it.
      if (limit === undefined) expect(report.error?.code).not.toBe("MWARP_E_TIMEOUT");
      expect(await expectUnharmed()).toBe(report.outcome === "committed" ? "vm-b" : "vm-a");
      await bringBack();
    },
  );

  it("of the destination that says nothing more once it is to give up holds the source up for a moment only", async () => {
    const mute = new Set<string>();
    liars["vm-b"].lie = {
      answer: (method, result) => {
        if (method === "destination.populate") return [];
        if (method === "destination.abort") mute.add(method);
        return mute.size > 0 ? silence : result;
      },
    };
    const end = migrate("vm-b");
    // The lie goes on all the while.
    await expect.poll(() => mute.size, { timeout: 60_000 }).toBe(1);
    await expect.poll(() => honest.vm().catch(() => null), { timeout: 60_000 }).toBe("vm-a");
    allHonest();
    liars["vm-b"].hangUp();
    expect((await end).outcome).toBe("aborted");
    expect(await expectUnharmed()).toBe("vm-a");
  });

  it("of the destination that says that the container runs, when it does not, has it all the same once it is honest", async () => {
    liars["vm-b"].lie = { withheld: ["destination.resume"], answer: (_, result) => result ?? {} };
    expect((await migrate("vm-b")).error?.code).toBe("MWARP_E_NEEDS_RECOVERY");
    expect(await expectUnharmed()).toBe("vm-b");
    await bringBack();
  });

  it("that claims a container of another VM's is not believed, and neither is asked to do anything with it", async () => {
    const { lab } = host;
    const { containers } = await lab.daemon.containers();
    const { container } = containers.find((item) => item.container.spec.name === "near")!;
    liars["vm-b"].lie = instead("container.list", (result) => ({
      containers: [...(result.containers as unknown[]), container],
    }));
    for (const args of [
      ["exec", "near", "--", "true"],
      ["rm", "-f", "near"],
    ]) {
      const { exit, stderr } = await lab.mwarp.run(args);
      expect([exit, stderr]).toEqual([5, expect.stringMatching(/vm-a .* and vm-b .* claim/)]);
    }
    const { error, from } = MigrationReportSchema.parse(
      JSON.parse((await lab.mwarp.run(["migrate", "near", "--to", "vm-b", "--json"])).stdout),
    );
    expect([error?.code, from, error?.message]).toEqual([
      "MWARP_E_NAME_TAKEN",
      "vm-a",
      expect.stringContaining("vm-b"),
    ]);
    expect(await expectUnharmed()).toBe("vm-a");
  });

  it("that tells the truth again can be worked with", async () => {
    expect((await migrate("vm-b")).outcome).toBe("committed");
    expect(await expectUnharmed()).toBe("vm-b");
  });
});

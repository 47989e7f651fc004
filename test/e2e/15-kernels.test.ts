/**
 * Between guests of different kernels: what the agent reads of its kernel (BTF, kallsyms) and what the host reads of both
 * kernels' memory hold for either, in either direction. And what the table says of pages of each class.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { MigrationTableSchema } from "../../src/protocol/api.js";
import { type MigrationReport, MigrationReportSchema } from "../../src/protocol/migration.js";
import { Crashes } from "../support/crash.js";
import { keepLogsOfFailures, TestLab } from "../support/lab.js";
import { type OtherKernel, olderKernel } from "../support/older-kernel.js";
import { SocketsClient } from "../support/sockets-client.js";
import { Workload } from "../support/workload.js";

const vms = ["vm-a", "vm-b"] as const;
/** Where a kernel without KASLR lies (CONFIG_PHYSICAL_START above __START_KERNEL_map). */
const DEFAULT_TEXT = "ffffffff81000000";
/** As in the lab's own command line: clearing memory by emulated string instructions is slow. */
const CPU = "max,-erms,-fsrm";
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");

/**
 * Kinds of pages in the kept table. Fails unless it names every page of the container, each with the treatment of its kind: only
 * what is the container's alone is exchanged, or shared within it.
 */
async function kindsOfTable(lab: TestLab, { id, memory }: MigrationReport): Promise<string[]> {
  const { runs } = await lab.mwarp.json(MigrationTableSchema, ["inspect", id, "--table"]);
  expect(runs.reduce((sum, run) => sum + run.pages, 0)).toBe(memory.pages);
  for (const { source_kind: kind, treatment } of runs) {
    if (kind === "exclusive") expect(["exchange", "shared"]).toContain(treatment);
    else expect(treatment).toBe(kind === "absent" ? "bytes" : "copy");
  }
  const kinds = [...new Set(runs.map((run) => run.source_kind))].sort();
  expect(kinds).not.toContain("unknown");
  return kinds;
}

describe("between a guest with Debian 13's kernel and one with Debian 12's", () => {
  let files: string;
  let lab: TestLab;
  keepLogsOfFailures(() => lab);
  let older: OtherKernel;
  beforeAll(async () => {
    files = mkdtempSync(path.join(tmpdir(), "mwt-kernel-"));
    older = await olderKernel(files);
    lab = new TestLab();
    await lab.up({ memory: "640M", overrides: { "vm-b": { extra: [...older.arguments] } } });
  }, 300_000);
  afterAll(async () => {
    await lab.down();
    rmSync(files, { recursive: true, force: true });
  }, 120_000);

  it("the kernels are what they are meant to be", async () => {
    const releases = await Promise.all(vms.map(async (vm) => (await lab.guest(vm, "uname", "-r")).trim()));
    expect(releases[1]).toBe(older.release);
    expect(releases).toEqual([expect.stringMatching(/^6\.1[2-9]\./), expect.stringMatching(/^6\.1\./)]);
  });

  it.each(vms)("memory of every class moves from %s, and the table names each class", async (from) => {
    // A destination that merges, too, would take the populated pages away again: those go as bytes and are not in the table.
    const merge = (vm: string, run: 0 | 1): Promise<string> =>
      lab.guest(vm, "sh", "-ec", `cd /sys/kernel/mm/ksm; echo 500 > pages_to_scan; echo ${run} > run`);
    await merge(from, 1);
    await merge(other(from), 0);
    const classes = await Workload.run(lab, from, "classes", ["classes", "128"]);
    const merged = "test $(cat /sys/kernel/mm/ksm/pages_sharing) -gt 0";
    await expect
      .poll(() => lab.mwarp.run(["vm", "exec", from, "--", "sh", "-c", merged]).then((end) => end.exit), {
        timeout: 60_000,
        interval: 500,
      })
      .toBe(0);
    const report = await classes.migrate(other(from), ["--backend", "remap"]);
    await classes.verify();
    const kinds = await kindsOfTable(lab, report);
    expect(kinds).toEqual(expect.arrayContaining(["exclusive", "held", "ksm"]));
    // The older kernel has no PAGEMAP_SCAN, by which CRIU tells the huge zero page from others; see below for `zero`.
    if (from === "vm-b") expect(kinds).toContain("huge_zero");
    console.info(`kinds of pages from ${from}: ${kinds.join(" ")}`);
    await classes.migrate(from);
    await classes.verify();
    await classes.remove();
  });

  it("zeroed pages that KSM merges into the zero page after the dump are copied as such", async () => {
    const ksm = (script: string): Promise<string> =>
      lab.guest("vm-a", "sh", "-ec", `cd /sys/kernel/mm/ksm; ${script}`);
    // Merged pages are made single ones again; none is a zero page when CRIU lists what is there.
    await ksm("echo 2 > run; echo 0 > run; echo 1 > use_zero_pages; echo 5000 > pages_to_scan");
    // What the destination merges while the migration stands still would go as bytes.
    await lab.guest("vm-b", "sh", "-ec", "echo 2 > /sys/kernel/mm/ksm/run; echo 0 > /sys/kernel/mm/ksm/run");
    const zeroed = async (): Promise<number> => Number(await ksm("cat ksm_zero_pages"));
    const crashes = new Crashes(lab);
    await crashes.begin();
    const classes = await Workload.run(lab, "vm-a", "zeroed", ["classes", "128"]);
    expect(await zeroed()).toBe(0);
    const args = ["zeroed", "--to", "vm-b", "--backend", "remap", "--json"];
    const migration = await crashes.startAndHold(args, "populated");
    try {
      await ksm("echo 1 > run");
      await expect.poll(zeroed, { timeout: 60_000, interval: 500 }).toBeGreaterThan(0);
    } finally {
      migration.release();
    }
    const report = MigrationReportSchema.parse(JSON.parse((await migration.finished).stdout));
    expect(report).toMatchObject({ outcome: "committed", error: null });
    await classes.verify();
    expect(await kindsOfTable(lab, report)).toEqual(expect.arrayContaining(["zero", "exclusive"]));
    await classes.remove();
    await ksm("echo 2 > run; echo 0 > use_zero_pages");
  });

  it("connections that nobody has accepted leave the older kernel, which takes none over: refused by their ports", async () => {
    const sockets = await Workload.run(lab, "vm-b", "sockets", ["sockets"]);
    const client = await SocketsClient.start(lab);
    const waiting =
      /TCP connections at port .*\b9004\b.* wait to be accepted, which the destination's kernel/;
    try {
      await client.tell("open");
      await client.tell("wait");
      await sockets.migrate("vm-a");
      const back = ["sockets", "--to", "vm-b", "--json"];
      const refused = await lab.mwarp.run(["migrate", ...back]);
      expect([refused.exit, refused.stdout]).toEqual([5, expect.stringMatching(waiting)]);
      await client.tell("accept");
      // Some come when nobody looks any more: the migration is taken back.
      const crashes = new Crashes(lab);
      await crashes.begin();
      const migration = await crashes.startAndHold(back, "prepared");
      await client.tell("wait");
      migration.release();
      const end = await migration.finished;
      expect([end.exit, end.stdout]).toEqual([
        1,
        expect.stringMatching(/has not taken over TCP connections/),
      ]);
      expect(await sockets.vm()).toBe("vm-a");
      await client.tell("accept");
      await sockets.migrate("vm-b");
      await client.tell("check");
      await sockets.verify();
    } finally {
      await client.end();
    }
    await sockets.remove();
  });

  it("tasks that share memory since fork, and threads, move there and back", async () => {
    const family = await Workload.run(lab, "vm-a", "family", ["cow", "16", "3"]);
    for (const backend of ["remap", "auto"] as const) {
      await family.migrate(other(await family.vm()), ["--backend", backend]);
      await family.verify();
    }
  });
});

describe("between guests whose processors and page tables are not the lab's usual ones", () => {
  let lab: TestLab;
  keepLogsOfFailures(() => lab);
  const words = async (vm: string, file: string, pattern: string): Promise<string[]> =>
    (await lab.guest(vm, "sh", "-c", `grep -om1 -wE '${pattern}' ${file} || true`))
      .split("\n")
      .filter(Boolean);
  beforeAll(async () => {
    lab = new TestLab();
    await lab.up({
      vms: 3,
      memory: "512M",
      // Small containers of scattered pages are remapped all the same.
      hugepages: "off",
      overrides: {
        "vm-a": { extra: ["-cpu", `${CPU},la57=off`] },
        // The later word counts: without it, pti=on would be forgotten beside mitigations=off.
        "vm-b": { extra: ["-cpu", `${CPU},la57=off`], kernelArguments: ["mitigations=auto", "pti=on"] },
        "vm-c": { extra: ["-cpu", `${CPU},avx=off,pku=off`] },
      },
    });
  }, 300_000);
  afterAll(() => lab.down(), 120_000);

  it("their paging is of four levels, one of them has page-table isolation, and none is where another is", async () => {
    const paging = await Promise.all(
      ["vm-a", "vm-b", "vm-c"].map((vm) => words(vm, "/proc/cpuinfo", "la57|pti")),
    );
    expect(paging).toEqual([[], ["pti"], ["la57"]]);
    const places = await Promise.all(vms.map(kernelPlace));
    console.info(`kernels at ${JSON.stringify(places)}`);
    expect(places[0]).not.toEqual(places[1]);
    // One kernel in some five hundred lies where it would without KASLR.
    expect(places.map(({ text }) => text)).not.toEqual([DEFAULT_TEXT, DEFAULT_TEXT]);
  });

  it("memory of every class, shared since fork, too, moves into page-table isolation and out of it", async () => {
    const workload = await Workload.run(lab, "vm-a", "classes", ["classes", "128"]);
    for (const to of ["vm-b", "vm-a"]) {
      const report = await workload.migrate(to, ["--backend", "remap"]);
      await workload.verify();
      await kindsOfTable(lab, report);
      expect(report.memory.remapped_pages).toBeGreaterThan(0);
    }
    await workload.remove();
  });

  it("to a processor that lacks something a container is refused by the names of what it lacks", async () => {
    const web = await Workload.run(lab, "vm-a", "web", ["pattern", "8", "small"]);
    const there = await lab.mwarp.refusal(["migrate", "web", "--to", "vm-c"]);
    expect([there.exit, there.error.code]).toEqual([5, "MWARP_E_UNSUPPORTED"]);
    expect(there.error.message).toMatch(/processor lacks (\w+ )*avx (\w+ )*pku;.*smaller XSAVE area/);
    await web.verify();
    await Workload.run(lab, "vm-c", "wide", ["pattern", "8", "small"]);
    const back = await lab.mwarp.refusal(["migrate", "wide", "--to", "vm-a"]);
    expect(back.error.message).toMatch(/processor lacks la57/);
    expect(back.error.message).not.toMatch(/XSAVE/);
  });

  /** Where a kernel put itself, its direct map and its struct pages. */
  async function kernelPlace(vm: string): Promise<{ text: string; directMap: string; structPages: string }> {
    const text = (await lab.guest(vm, "sh", "-c", "grep -m1 -w _text /proc/kallsyms")).split(" ")[0];
    const facts = JSON.parse(await lab.guest(vm, "cat", "/run/mwarp-guest/kernel.json"));
    return { text, directMap: facts.directMapBase, structPages: facts.vmemmapBase };
  }
});

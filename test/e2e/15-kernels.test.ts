/**
 * Between guests of different kernels: what the agent reads of its kernel (BTF, kallsyms) and what the host reads of both
 * kernels' memory hold for either, in either direction. And what the table says of pages of each class.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { MigrationTableSchema } from "../../src/protocol/api.js";
import { keepLogsOfFailures, TestLab } from "../support/lab.js";
import { type OtherKernel, olderKernel } from "../support/older-kernel.js";
import { Workload } from "../support/workload.js";

const vms = ["vm-a", "vm-b"] as const;
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");

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
    const { id } = await classes.migrate(other(from), ["--backend", "remap"]);
    await classes.verify();
    const { runs } = await lab.mwarp.json(MigrationTableSchema, ["inspect", id, "--table"]);
    const kinds = [...new Set(runs.map((run) => run.source_kind))].sort();
    expect(kinds).toEqual(expect.arrayContaining(["exclusive", "held", "ksm"]));
    console.info(`kinds of pages from ${from}: ${kinds.join(" ")}`);
    expect(kinds).not.toContain("unknown");
    // Only what is the container's alone is exchanged, or shared within it.
    for (const run of runs) expect(run.treatment === "copy").toBe(run.source_kind !== "exclusive");
    await classes.migrate(from);
    await classes.verify();
    await classes.remove();
  });

  it("tasks that share memory since fork, and threads, move there and back", async () => {
    const family = await Workload.run(lab, "vm-a", "family", ["cow", "16", "3"]);
    for (const backend of ["remap", "auto"] as const) {
      await family.migrate(other(await family.vm()), ["--backend", backend]);
      await family.verify();
    }
  });
});

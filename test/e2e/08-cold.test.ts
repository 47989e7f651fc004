/** The comparison: stock checkpoint and restore, pages sent over the VMs' network. */
import { describe, expect, it } from "vitest";
import { MigrationListSchema } from "../../src/protocol/api.js";
import { useLab } from "../support/lab.js";
import { Workload } from "../support/workload.js";

const host = useLab({ memory: "2G" });

describe("a cold migration", () => {
  it.each([
    ["edge", ["edge", "128", "scattered"]],
    ["pattern", ["pattern", "128", "thp"]],
    ["cow", ["cow", "48", "3"]],
  ] as const)("moves %s there and back with every page right, and copies every page", async (_, argv) => {
    const workload = await Workload.run(host.lab, "vm-a", "cold", argv);
    for (const to of ["vm-b", "vm-a"]) {
      const report = await workload.migrate(to, ["--method", "cold"]);
      await workload.verify();
      expect(report).toMatchObject({ method: "cold", backend: null, stun_ms: { source: 0, destination: 0 } });
      expect(report.memory.remapped_pages).toBe(0);
      // Zero pages are not dumped; all else of the least of these workloads is.
      expect(report.memory.copied_pages).toBeGreaterThan(10_000);
    }
    await workload.remove();
  });

  it("shows in the history beside a warp, with the phases of each", async () => {
    const workload = await Workload.run(host.lab, "vm-a", "both", ["pattern", "64", "thp"]);
    await workload.migrate("vm-b", ["--method", "cold"]);
    await workload.migrate("vm-a", ["--method", "warp"]);
    const { migrations } = await host.lab.mwarp.json(MigrationListSchema, ["history"]);
    const mine = migrations.filter(({ request }) => request.container === "both");
    expect(mine.map(({ request, state }) => [request.method, state]).sort()).toEqual([
      ["cold", "done"],
      ["warp", "done"],
    ]);
    for (const { report } of mine) {
      const { total, downtime, phases } = report!.time_ms;
      expect(downtime).toBeGreaterThan(0);
      expect(total).toBeGreaterThanOrEqual(downtime);
      const sum = Object.values(phases).reduce((all, one) => all + one, 0);
      expect(sum).toBeLessThanOrEqual(total * 1.02 + 5);
    }
  });
});

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect, it } from "vitest";
import type { Check } from "../../../src/cli/doctor/check.js";
import { judgeCosts, readCosts } from "../../../src/cli/doctor/costs.js";
import { type HostFacts, judgeHost } from "../../../src/cli/doctor/host.js";
import { checkLines } from "../../../src/cli/doctor/render.js";
import { atLeast, judgeLeftovers, judgeVm } from "../../../src/cli/doctor/vms.js";
import type { VmListing } from "../../../src/protocol/api.js";
import type { CostFile } from "../../../src/protocol/costs.js";
import { containerState } from "../daemon/fake-container.js";
import { FakeIo } from "./fake-io.js";

const fit: HostFacts = {
  isRoot: true,
  nodeVersion: "20.20.2",
  missingPackages: [],
  kvm: { works: true, reason: "a trial guest ran" },
  hasTun: true,
  meminfo: "MemAvailable:    8388608 kB\nHugePages_Total:       4\nHugePages_Free:        2\n",
  maxMapCount: 65_530,
};

const vm: VmListing = {
  name: "vm-a",
  state: "ready",
  pid: 100,
  address: null,
  agent: {
    version: "0.1.0",
    kernel: "6.12",
    criu: "4.1.1",
    runc: "1.1.15+ds1",
    crun: { version: "1.21", criu: true },
    memory_total_bytes: 1 << 30,
    memory_available_bytes: 1 << 29,
  },
  memory: { shared: true, bytes: 1 << 30, host_page_bytes: 4096, transparent_huge: false, reason: null },
  library: true,
  containers: 0,
  error: null,
};

const bad = (checks: readonly Check[]): string[] =>
  checks.filter(({ status }) => status !== "ok").map(({ id, status }) => `${id} ${status}`);

describe("the doctor", () => {
  it("says what exchanges cost here, from which length of run on they remap, and when the file is damaged", () => {
    const directory = mkdtempSync(path.join(tmpdir(), "mwarp-doctor-"));
    const env = { MWARP_STATE_DIR: directory };
    const file = path.join(directory, "costs.json");
    const four = {
      remapSetupUs: 500,
      remapPerExtentUs: 10,
      remapPerPageUs: 0.1,
      touchPerExtentUs: 0,
      touchPerPageUs: 0.1,
      copySetupUs: 100,
      copyPerExtentUs: 0,
      copyPerPageUs: 0.7,
    };
    const kept: CostFile = {
      version: 1,
      measured_at: "2026-01-01T00:00:00.000Z",
      time_ms: 600,
      host: { kernel: "6.12", cpu: "one", processors: 2, shmem_huge: "never" },
      busy: false,
      costs: { "4k": four, thp: { ...four, copyPerPageUs: 0.15 }, hugetlb: null },
    };
    try {
      expect(judgeCosts(readCosts(env)).message).toContain("not measured yet");
      writeFileSync(file, JSON.stringify(kept));
      expect(readCosts(env)).toEqual({ costs: kept });
      expect(judgeCosts(readCosts(env))).toEqual({
        id: "host.costs",
        status: "ok",
        message:
          "measured 2026-01-01T00:00:00.000Z: 4k copies a page in 0.70 us, remaps runs from 20 pages on; " +
          "thp copies a page in 0.15 us, remapping gains nothing; hugetlb not measured, built-in",
        remedy: null,
      });
      writeFileSync(file, "{");
      expect(judgeCosts(readCosts(env)).status).toBe("warn");
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it("finds nothing wrong with a fit host and a fit VM", () => {
    expect(bad([...judgeHost(fit), ...judgeVm(vm)])).toEqual([]);
  });

  it.each<[Partial<HostFacts>, string]>([
    [{ isRoot: false }, "host.root fail"],
    [{ nodeVersion: "20.17.0" }, "host.node fail"],
    [{ nodeVersion: "18.20.0" }, "host.node fail"],
    [{ missingPackages: ["mmdebstrap"] }, "host.packages warn"],
    [{ kvm: { works: false, reason: "no" } }, "host.kvm warn"],
    [{ hasTun: false }, "host.tun fail"],
    [{ meminfo: fit.meminfo.replace("8388608", "1000000") }, "host.memory warn"],
    [{ meminfo: "MemAvailable:    8388608 kB\n" }, "host.hugepages warn"],
    [{ maxMapCount: 1000 }, "host.max_map_count warn"],
    [{ maxMapCount: null }, "host.max_map_count warn"],
  ])("of a host with %j says exactly that, with a remedy", (changes, finding) => {
    const checks = judgeHost({ ...fit, ...changes });
    expect(bad(checks)).toEqual([finding]);
    expect(checks.find(({ status }) => status !== "ok")?.remedy).toBeTruthy();
  });

  it.each<[Partial<VmListing>, string[]]>([
    [{ state: "gone" }, ["vm.vm-a.process fail"]],
    [{ agent: null, state: "unreachable" }, ["vm.vm-a.agent fail"]],
    [{ agent: { ...vm.agent!, criu: "3.17.1" } }, ["vm.vm-a.criu fail"]],
    [{ agent: { ...vm.agent!, runc: null } }, ["vm.vm-a.runc fail"]],
    [{ memory: { ...vm.memory, shared: false, reason: "private" } }, ["vm.vm-a.memory fail"]],
    [{ library: false }, ["vm.vm-a.library warn"]],
  ])("of a VM with %j says exactly that", (changes, findings) => {
    expect(bad(judgeVm({ ...vm, ...changes }))).toEqual(findings);
  });

  it("calls a container left over that is held by a migration which does not run", () => {
    const containers = [{ vm: "vm-b", container: containerState("web", { held: "m-1" }) }];
    expect(judgeLeftovers({ containers, unreachable: [] }, new Set(["m-1"])).status).toBe("ok");
    const left = judgeLeftovers({ containers, unreachable: [] }, new Set());
    expect(left).toMatchObject({ status: "fail", remedy: "mwarp recover" });
    expect(left.message).toContain("web on vm-b");
  });

  it("compares versions by their numbers", () => {
    expect(atLeast("1.1.15+ds1", "1.1.10")).toBe(true);
    expect(atLeast("1.1.9", "1.1.10")).toBe(false);
    expect(atLeast("4.0", "4.0")).toBe(true);
    expect(atLeast("4", "4.0")).toBe(true);
    expect(atLeast("3.19", "4.0")).toBe(false);
  });

  it("prints a remedy below each finding and counts them at the end", () => {
    const lines = checkLines(judgeHost({ ...fit, hasTun: false, maxMapCount: 1 }), new FakeIo());
    expect(lines.at(-1)).toBe("1 failed, 1 warnings");
    expect(lines.filter((line) => line.includes("-> "))).toHaveLength(2);
  });
});

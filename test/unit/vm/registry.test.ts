import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startTimeOf } from "../../../src/vm/process.js";
import { VmRegistry, verifyEndpoint } from "../../../src/vm/registry.js";
import type { VmEndpoint } from "../../../src/vm/types.js";
import { PausedQemu } from "./paused-qemu.js";

let directory: string;
let registry: VmRegistry;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "mwarp-registry-"));
  registry = new VmRegistry({
    lab: join(directory, "lab.json"),
    attached: join(directory, "state", "vms.json"),
  });
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const endpoint = (name: string, change: Partial<VmEndpoint> = {}): VmEndpoint => ({
  name,
  pid: process.pid,
  startTime: startTimeOf(process.pid) ?? "",
  qmpSocket: "/run/x/qmp.sock",
  agentSocket: "/run/x/agent.sock",
  vmmSocket: null,
  address: null,
  ...change,
});
const lab = (...vms: VmEndpoint[]) =>
  writeFileSync(join(directory, "lab.json"), JSON.stringify({ phase: "up", vms }));

test("without files there are no VMs, and asking for one says so", () => {
  expect(registry.list()).toEqual([]);
  expect(() => registry.get("vm-a")).toThrow(expect.objectContaining({ code: "MWARP_E_VM_UNKNOWN" }));
  expect(() => registry.detach("vm-a")).toThrow(expect.objectContaining({ code: "MWARP_E_VM_UNKNOWN" }));
});

test("the lab's VMs and attached ones are listed together, and survive a new registry", () => {
  lab(endpoint("vm-a"));
  registry.attach(endpoint("mine"));
  expect(registry.list().map((vm) => vm.name)).toEqual(["vm-a", "mine"]);
  expect(registry.get("mine")).toEqual(endpoint("mine"));
  registry.detach("mine");
  expect(registry.list().map((vm) => vm.name)).toEqual(["vm-a"]);
});

test("a name in use is refused, a name whose VM is gone is free again", () => {
  lab(endpoint("vm-a"));
  expect(() => registry.attach(endpoint("vm-a"))).toThrow(
    expect.objectContaining({ code: "MWARP_E_NAME_TAKEN" }),
  );
  registry.attach(endpoint("mine"));
  expect(() => registry.attach(endpoint("mine"))).toThrow(
    expect.objectContaining({ code: "MWARP_E_NAME_TAKEN" }),
  );
  writeFileSync(
    join(directory, "state", "vms.json"),
    JSON.stringify({ vms: [endpoint("mine", { startTime: "1", address: "10.0.0.1" })] }),
  );
  registry.attach(endpoint("mine"));
  expect(registry.list().filter((vm) => vm.name === "mine")).toEqual([endpoint("mine")]);
});

test("a VM of the lab cannot be detached", () => {
  lab(endpoint("vm-a"));
  expect(() => registry.detach("vm-a")).toThrow("belongs to the lab");
});

test("an endpoint without a living process, or malformed, is not written down", () => {
  expect(() => registry.attach(endpoint("x", { startTime: "1" }))).toThrow(
    expect.objectContaining({ code: "MWARP_E_VM_UNREACHABLE" }),
  );
  expect(() => registry.attach(endpoint("../x"))).toThrow(expect.objectContaining({ code: "MWARP_E_USAGE" }));
  expect(() => registry.attach(endpoint("x", { qmpSocket: "relative" }))).toThrow(
    expect.objectContaining({ code: "MWARP_E_USAGE" }),
  );
  expect(registry.list()).toEqual([]);
});

test("a damaged file is an error that names it, not an empty list", () => {
  writeFileSync(join(directory, "lab.json"), '{"vms": [{"name": "vm-a"');
  expect(() => registry.list()).toThrow(/lab\.json is damaged/);
});

test("an endpoint is verified by talking to its QEMU", async () => {
  await using qemu = await PausedQemu.start();
  qemu.qmp.close();
  await verifyEndpoint(qemu.endpoint);
  await expect(verifyEndpoint({ ...qemu.endpoint, qmpSocket: "/nowhere" })).rejects.toMatchObject({
    code: "MWARP_E_VM_UNREACHABLE",
  });
  await expect(verifyEndpoint({ ...qemu.endpoint, startTime: "1" })).rejects.toThrow("no process");
});

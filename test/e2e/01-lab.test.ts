import { existsSync, readdirSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VmListSchema } from "../../src/protocol/api.js";
import { TestLab } from "../support/lab.js";
import { labProcesses } from "../support/processes.mjs";

describe("the lab", () => {
  let lab: TestLab;
  beforeAll(() => {
    lab = new TestLab();
  });
  // Fails when anything is left behind.
  afterAll(() => lab.down());

  it("is down before it was brought up, and says so", async () => {
    const status = await lab.mwarp.run(["lab", "status"]);
    expect(status.stdout + status.stderr).toMatch(/no lab|down/i);
    expect(labProcesses(lab.runDir)).toEqual([]);
  });

  it("boots two VMs whose memory can be exchanged and whose agents answer", async () => {
    await lab.mwarp.ok(["lab", "up", "--name", lab.name, "--memory", "512M"], { timeoutMs: 200_000 });
    const { vms } = await lab.mwarp.json(VmListSchema, ["vm", "ls"]);
    expect(vms.map((vm) => [vm.name, vm.state, vm.memory.shared, vm.library, vm.containers])).toEqual([
      ["vm-a", "ready", true, true, 0],
      ["vm-b", "ready", true, true, 0],
    ]);
  });

  it("comes up only once: a second `lab up` leaves the first as it is", async () => {
    const before = await lab.mwarp.json(VmListSchema, ["vm", "ls"]);
    await lab.mwarp.run(["lab", "up", "--name", lab.name, "--memory", "512M"]);
    const after = await lab.mwarp.json(VmListSchema, ["vm", "ls"]);
    expect(after.vms.map((vm) => vm.pid)).toEqual(before.vms.map((vm) => vm.pid));
  });

  it("goes down with VMs, daemon, namespace and files, though a container runs in it", async () => {
    await lab.mwarp.ok([
      "run",
      "--vm",
      "vm-a",
      "--name",
      "left",
      "--rootfs",
      lab.rootfs,
      "--",
      "pattern",
      "8",
      "small",
    ]);
    await lab.mwarp.ok(["lab", "down"]);
    expect(labProcesses(lab.runDir)).toEqual([]);
    expect(existsSync(lab.runDir) ? readdirSync(lab.runDir) : []).toEqual([]);
  });

  it("comes up again, and clears what is left of VMs that were killed", async () => {
    await lab.up({ vms: 2, memory: "512M" });
    for (const { pid, command } of labProcesses(lab.runDir)) {
      if (command.includes("qemu")) process.kill(pid, "SIGKILL");
    }
    // The kernel takes its time to free a VMM's memory: until then it is a process that does not answer.
    const states = async () => (await lab.mwarp.json(VmListSchema, ["vm", "ls"])).vms.map((vm) => vm.state);
    await expect.poll(states, { timeout: 20_000, interval: 200 }).toEqual(["gone", "gone"]);
  });
});

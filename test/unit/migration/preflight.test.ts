import { describe, expect, it } from "vitest";
import { MwarpError } from "../../../src/errors.js";
import type { JournalHead } from "../../../src/migration/journal.js";
import type { OpenMigration } from "../../../src/migration/journals.js";
import type { MigrationWorld } from "../../../src/migration/ports.js";
import { preflight, Refusal } from "../../../src/migration/preflight.js";
import type { AgentResult } from "../../../src/protocol/agent.js";
import type { MigrationRequest } from "../../../src/protocol/migration.js";
import type { MemoryBacking } from "../../../src/vm/types.js";
import { moveWeb } from "../../support/requests.js";

import { type Guest, MIB, makeWorld, vmIdentity, web } from "./fake-guests.js";

const request = moveWeb();

const check = (
  world: MigrationWorld,
  request: MigrationRequest,
  {
    unsettled = [],
    signal = new AbortController().signal,
  }: { unsettled?: readonly OpenMigration[]; signal?: AbortSignal } = {},
): ReturnType<typeof preflight> => preflight(world, request, unsettled, signal);

async function refusal(
  guests: Record<string, Guest>,
  change: Partial<MigrationRequest> = {},
): Promise<Refusal> {
  const { world } = makeWorld(guests);
  const outcome = await check(world, { ...request, ...change }).catch((error: unknown) => error);
  expect(outcome).toBeInstanceOf(Refusal);
  return outcome as Refusal;
}
const codes = (refused: Refusal): string[] => refused.reasons.map(({ code }) => code);

describe("preflight", () => {
  it("passes a running container between two sound VMs and changes nothing", async () => {
    const { world, asked } = makeWorld({ "vm-a": { containers: [web()] }, "vm-b": {} });
    const checked = await check(world, request);
    expect(checked.source.endpoint.name).toBe("vm-a");
    expect(asked.sort()).toEqual(["vm-a info", "vm-a source.inspect", "vm-b info"]);
  });

  it("names both an unknown container and an unknown VM at once", async () => {
    expect(codes(await refusal({ "vm-a": {} }))).toEqual(["MWARP_E_CONTAINER_UNKNOWN", "MWARP_E_VM_UNKNOWN"]);
  });

  it("does not call a container unknown while a VM is silent", async () => {
    const refused = await refusal({ "vm-a": { containers: "silent" }, "vm-b": {} });
    expect(codes(refused)).toEqual(["MWARP_E_AGENT_UNREACHABLE"]);
    expect(refused.exit).toBe(3);
  });

  it("refuses the VM on which the container runs already", async () => {
    expect(codes(await refusal({ "vm-a": {}, "vm-b": { containers: [web()] } }))).toEqual([
      "MWARP_E_SAME_VM",
    ]);
  });

  it("refuses when the name is taken on the destination", async () => {
    const guests = { "vm-a": { containers: [web()] }, "vm-b": { containers: [web()] } };
    expect(codes(await refusal(guests))).toEqual(["MWARP_E_NAME_TAKEN"]);
  });

  it("refuses a stopped container, and one that another migration holds", async () => {
    expect(
      codes(await refusal({ "vm-a": { containers: [web({ status: "stopped" })] }, "vm-b": {} })),
    ).toEqual(["MWARP_E_NOT_RUNNING"]);
    expect(codes(await refusal({ "vm-a": { containers: [web({ held: "m1" })] }, "vm-b": {} }))).toEqual([
      "MWARP_E_BUSY",
    ]);
  });

  it("lists every fault of both guests, of the container and of the room for it together", async () => {
    const { world } = makeWorld({
      "vm-a": {
        containers: [web()],
        info: { criuVersion: "3.17.1" },
        backing: { kind: "unsuitable", reason: "private" },
        usage: { unsupported: ["pid 1 fd 7: /dev/kvm"], anonymousBytes: 4096 * MIB },
      },
      "vm-b": { info: { runcVersion: null, cpuFlags: ["sse2"] } },
    });
    const refused = await check(world, request).catch((error) => error);
    expect(codes(refused)).toEqual([
      "MWARP_E_CRIU_TOO_OLD",
      "MWARP_E_RUNC_TOO_OLD",
      "MWARP_E_UNSUPPORTED",
      "MWARP_E_MEMORY_NOT_SHARED",
      "MWARP_E_UNSUPPORTED",
      "MWARP_E_NO_MEMORY",
    ]);
    expect(refused.message).toContain("avx2");
  });

  it("asks the container's side all it can, also when the other VM is unknown or its agent silent", async () => {
    const source: Guest = { containers: [web()], usage: { unsupported: ["pid 1 fd 7: /dev/kvm"] } };
    expect(codes(await refusal({ "vm-a": source }))).toEqual(["MWARP_E_VM_UNKNOWN", "MWARP_E_UNSUPPORTED"]);
    const silent = await refusal({ "vm-a": source, "vm-b": { agent: "gone" } });
    expect(codes(silent)).toEqual(["MWARP_E_AGENT_UNREACHABLE", "MWARP_E_UNSUPPORTED"]);
    expect([silent.exit, silent.reasons[0]?.message]).toEqual([3, "vm-b: no agent"]);
  });

  it("ends with the reason of a cancel, not with a refusal", async () => {
    const { world } = makeWorld({ "vm-a": { containers: [web()] }, "vm-b": { agent: "gone" } });
    const cancelled = new MwarpError("MWARP_E_CANCELLED", "cancelled");
    await expect(check(world, request, { signal: AbortSignal.abort(cancelled) })).rejects.toBe(cancelled);
  });

  it("refuses a processor that keeps less state, which CRIU would only notice after the freeze", async () => {
    const guests = { "vm-a": { containers: [web()] }, "vm-b": { info: { signalFrameBytes: 2560 } } };
    const refused = await refusal(guests);
    expect(codes(refused)).toEqual(["MWARP_E_UNSUPPORTED"]);
    expect((refused as Error).message).toMatch(/XSAVE.* 2560 bytes, not 3632/);
  });

  it("refuses a destination that does not speak IPv6 to a container with such an address", async () => {
    const guests = { "vm-a": { containers: [web()] }, "vm-b": { info: { ipv6: false } } };
    const refused = await refusal(guests);
    expect(codes(refused)).toEqual(["MWARP_E_UNSUPPORTED"]);
    expect(refused.message).toMatch(/no IPv6.* fd6d:7761:7270::100/);
    const spec = { network: { ipv6: null } } as AgentResult<"source.inspect">["spec"];
    const { world } = makeWorld({ ...guests, "vm-a": { ...guests["vm-a"], usage: { spec } } });
    await expect(check(world, request)).resolves.toBeDefined();
  });

  it("refuses a kernel that cannot take over what nobody has accepted, while there is any", async () => {
    const source = { containers: [web()], usage: { waitingPorts: [80, 443] } };
    const guests = { "vm-a": source, "vm-b": { info: { admitsConnections: false } } };
    const refused = await refusal(guests);
    expect(codes(refused)).toEqual(["MWARP_E_UNSUPPORTED"]);
    expect(refused.message).toMatch(/port 80 and 443 wait to be accepted/);
    const { world } = makeWorld({ ...guests, "vm-a": { ...source, usage: {} } });
    await expect(check(world, request)).resolves.toBeDefined();
  });

  it("does not ask for what a kernel only notes of its processor: another kernel has other words", async () => {
    const source = { containers: [web()], info: { cpuFlags: ["avx2", "sse2", "xtopology", "rep_good"] } };
    const { world } = makeWorld({ "vm-a": source, "vm-b": { info: { cpuFlags: ["avx2", "sse2"] } } });
    await expect(check(world, request)).resolves.toMatchObject({
      container: { status: "running" },
    });
  });

  it.each([
    ["more", 8192],
    ["nobody knows how much", 0],
  ])("lets go to a processor that keeps %s state", async (_, signalFrameBytes) => {
    const { world } = makeWorld({ "vm-a": { containers: [web()] }, "vm-b": { info: { signalFrameBytes } } });
    await expect(check(world, request)).resolves.toMatchObject({
      container: { status: "running" },
    });
  });

  it("lets cold move between VMs whose memory cannot be exchanged", async () => {
    const backing: MemoryBacking = { kind: "unsuitable", reason: "private" };
    const { world } = makeWorld({ "vm-a": { containers: [web()], backing }, "vm-b": { backing } });
    const checked = await check(world, { ...request, method: "cold" });
    expect(checked.layouts).toBeNull();
  });

  it("refuses --backend remap for a VM without the library", async () => {
    const guests = { "vm-a": { containers: [web()] }, "vm-b": { library: false } };
    expect(codes(await refusal(guests, { backend: "remap" }))).toEqual(["MWARP_E_UNSUPPORTED"]);
  });

  it.each(["copy", "auto"] as const)(
    "refuses a VM that is itself migrated or saved, also to --backend %s",
    async (backend) => {
      const hazards = { change: ["a migration or snapshot of the VM itself (active)"] };
      const refused = await refusal({ "vm-a": { containers: [web()] }, "vm-b": { hazards } }, { backend });
      expect(codes(refused)).toEqual(["MWARP_E_UNSUPPORTED"]);
      expect(refused.message).toMatch(/vm-b: a migration or snapshot of the VM itself/);
      expect(refused.hint).toMatch(/Wait until it has ended/);
    },
  );

  it("refuses to remap what a device holds on to, by its name, and copies it without being told to remap", async () => {
    const guests = {
      "vm-a": { containers: [web()] },
      "vm-b": { hazards: { remap: ["device virtio-mem-pci"] } },
    };
    expect((await refusal(guests, { backend: "remap" })).message).toMatch(/device virtio-mem-pci/);
    const { world } = makeWorld(guests);
    const checked = await check(world, { ...request, backend: "auto" });
    expect(checked.copiedBecause).toEqual(["vm-b: device virtio-mem-pci"]);
  });

  it("says that a VM is paused, beside what its silent agent brings about", async () => {
    const guests: Record<string, Guest> = {
      "vm-a": { containers: [web()] },
      "vm-b": { agent: "gone", hazards: { runState: "paused" } },
    };
    const refused = await refusal(guests);
    expect(codes(refused)).toEqual(["MWARP_E_AGENT_UNREACHABLE", "MWARP_E_VM_UNREACHABLE"]);
    expect(refused.message).toMatch(/vm-b does not run: QEMU says "paused"/);
  });

  it("does not exchange frames of a VM that an earlier migration has left unsettled; over the network it may go", async () => {
    const { world } = makeWorld({ "vm-a": { containers: [web()] }, "vm-b": {} });
    const head = {
      container: "old",
      vms: { from: { pid: 8, startTime: "8" }, to: vmIdentity },
    } as JournalHead;
    for (const left of [head, null]) {
      const unsettled = [{ id: "m-old", head: left }];
      await expect(check(world, request, { unsettled })).rejects.toMatchObject({ code: "MWARP_E_BUSY" });
      await expect(check(world, { ...request, method: "cold" }, { unsettled })).resolves.toBeDefined();
    }
    const others = { ...head, vms: { from: head.vms.from, to: head.vms.from } };
    await expect(check(world, request, { unsettled: [{ id: "m-o", head: others }] })).resolves.toBeDefined();
  });

  it("asks for the memory before the freeze, counts it twice for cold", async () => {
    const usage = { anonymousBytes: 1000 * MIB };
    const { world } = makeWorld({
      "vm-a": { containers: [web()], usage },
      "vm-b": { info: { memAvailableBytes: 1500 * MIB } },
    });
    await expect(check(world, request)).resolves.toBeDefined();
    const cold = check(world, { ...request, method: "cold" });
    await expect(cold).rejects.toMatchObject({ code: "MWARP_E_NO_MEMORY" });
  });

  it("counts what the container has in swap", async () => {
    const usage = { anonymousBytes: 100 * MIB, swapBytes: 400 * MIB };
    const room = { memAvailableBytes: 500 * MIB };
    const refused = await refusal({ "vm-a": { containers: [web()], usage }, "vm-b": { info: room } });
    expect(refused.code).toBe("MWARP_E_NO_MEMORY");
    expect(refused.message).toMatch(/needs 596 MiB/);
  });

  it("counts shared memory, which is in the images of every method, but not files of the writable layer again", async () => {
    const usage = { memoryBytes: 300 * MIB, sharedBytes: 200 * MIB, writableLayerBytes: 50 * MIB };
    const room = { memAvailableBytes: 500 * MIB };
    const refused = await refusal({ "vm-a": { containers: [web()], usage }, "vm-b": { info: room } });
    expect(refused.message).toMatch(/needs 596 MiB/);
  });

  it.each([
    ["has no swap", 0, false],
    ["has as much swap", 64 * MIB, true],
  ])("a container above its limit, to a guest that %s", async (_, swapTotalBytes, goes) => {
    const usage = { anonymousBytes: 100 * MIB, swapBytes: 60 * MIB, memoryLimitBytes: 110 * MIB };
    const { world } = makeWorld({
      "vm-a": { containers: [web()], usage },
      "vm-b": { info: { swapTotalBytes } },
    });
    const outcome = check(world, request);
    if (goes) await expect(outcome).resolves.toBeDefined();
    else {
      await expect(outcome).rejects.toMatchObject({ code: "MWARP_E_NO_MEMORY" });
      await expect(outcome).rejects.toThrow(/may use 110 MiB .* 60 MiB in swap; vm-b has 0 MiB/);
    }
  });

  it("refuses what stock CRIU would lose where stock tools move it: by the network, or without quick tools", async () => {
    const source = { containers: [web()], usage: { needsLibrary: ["pid 7: the terminal of its session"] } };
    const world = (quickTools: boolean) =>
      makeWorld({ "vm-a": source, "vm-b": { info: { quickTools } } }).world;
    await expect(check(world(true), request)).resolves.toBeDefined();
    for (const refused of [check(world(true), moveWeb({ method: "cold" })), check(world(false), request)])
      await expect(refused).rejects.toThrow(/CRIU by itself would take away pid 7: the terminal/);
  });

  it("names each resource that cannot move", async () => {
    const guests = {
      "vm-a": {
        containers: [web()],
        usage: { unsupported: ["pid 1 fd 7: /dev/kvm", "pid 1 fd 8: io_uring"] },
      },
      "vm-b": {},
    };
    const refused = await refusal(guests);
    expect(refused.message).toContain("fd 7: /dev/kvm");
    expect(refused.message).toContain("fd 8: io_uring");
    expect(refused.hint).toContain("a seccomp filter forbids io_uring");
  });
});

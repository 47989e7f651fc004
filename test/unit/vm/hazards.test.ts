import { describe, expect, it } from "vitest";
import { findHazards, frameHoldingDevices, memoryEncryption } from "../../../src/vm/hazards.js";
import { PausedQemu } from "./paused-qemu.js";

/** As QEMU prints it, shortened. */
const qtree = (device: string, ...properties: string[]): string =>
  [
    "bus: main-system-bus",
    "  type System",
    '  dev: q35-pcihost, id ""',
    "    bus: pcie.0",
    "      type PCIE",
    `      dev: ${device}, id "d0"`,
    ...properties.map((property) => `        ${property}`),
    '      dev: virtio-net-pci, id ""',
    "        mq = false",
  ].join("\n");

describe("a device that holds on to frames of the guest", () => {
  it.each([
    "vfio-pci",
    "vfio-ap",
    "vhost-user-fs-pci",
    "vhost-user-blk-pci",
    "vhost-vdpa-device-pci",
    "virtio-mem-pci",
    "ivshmem-plain",
    "x-vfio-user-pci",
  ])("is found in QEMU's device tree: %s", (name) => {
    expect(frameHoldingDevices(qtree(name, "addr = 03.0"))).toEqual([name]);
  });

  it("is a virtio-gpu only with blob resources", () => {
    expect(frameHoldingDevices(qtree("virtio-gpu-device", "max_outputs = 1", "blob = true"))).toEqual([
      "virtio-gpu-device with blob resources",
    ]);
    expect(frameHoldingDevices(qtree("virtio-gpu-device", "blob = false"))).toEqual([]);
  });

  it.each(["virtio-blk-pci", "virtio-net-pci", "vhost-vsock-pci", "virtio-balloon-pci", "qxl"])(
    "is not %s, which reaches memory by the VMM's addresses",
    (name) => {
      expect(frameHoldingDevices(qtree(name))).toEqual([]);
    },
  );
});

describe("asked of a real QEMU", () => {
  it("nothing is in the way in a plain VM, and nothing encrypts it", async () => {
    await using qemu = await PausedQemu.start();
    // It is made to stand still before it has begun.
    expect(await findHazards(qemu.qmp)).toEqual({ runState: "prelaunch", remap: [], change: [] });
    expect(await memoryEncryption(qemu.qmp)).toBeNull();
  });

  it("virtio-mem and memory shared with another VM are named", async () => {
    await using qemu = await PausedQemu.start({
      memoryArguments: [
        "-machine",
        "q35,memory-backend=ram0",
        "-m",
        "64M,maxmem=1G,slots=2",
        "-object",
        "memory-backend-memfd,id=ram0,size=64M,share=on",
      ],
      devices: [
        ...["-object", "memory-backend-memfd,id=shared0,size=4M,share=on"],
        ...["-device", "ivshmem-plain,memdev=shared0"],
        ...["-object", "memory-backend-memfd,id=more0,size=128M,share=on,reserve=off"],
        ...["-device", "virtio-mem-pci,memdev=more0"],
      ],
    });
    const { remap, change } = await findHazards(qemu.qmp);
    expect(remap).toContain("device ivshmem-plain");
    expect(remap).toContain("device virtio-mem-pci");
    expect(change).toEqual([]);
  });

  it("a migration of the VM itself is named while it lasts, as a hazard to copies, too", async () => {
    await using qemu = await PausedQemu.start();
    await qemu.qmp.execute("migrate-set-parameters", { "max-bandwidth": 1 });
    await qemu.qmp.execute("migrate", { uri: "exec:cat >/dev/null" });
    const change = async (): Promise<readonly string[]> => (await findHazards(qemu.qmp)).change;
    expect(await change()).toEqual([
      expect.stringMatching(/^a migration or snapshot of the VM itself \((setup|active)\)$/),
    ]);
    await qemu.qmp.execute("migrate_cancel");
    await expect.poll(change, { timeout: 10_000 }).toEqual([]);
  });

  it("a measurement of its dirty rate is named while it lasts", async () => {
    await using qemu = await PausedQemu.start();
    await qemu.qmp.execute("calc-dirty-rate", { "calc-time": 3 });
    const remap = async (): Promise<readonly string[]> => (await findHazards(qemu.qmp)).remap;
    // A thread of its own begins it, a moment after the answer (QEMU's migration/dirtyrate.c, qmp_calc_dirty_rate).
    await expect.poll(remap, { timeout: 2_500 }).toEqual(["a measurement of its dirty rate"]);
    await expect.poll(remap, { timeout: 10_000 }).toEqual([]);
  });
});

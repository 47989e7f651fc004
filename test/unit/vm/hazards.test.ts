import { describe, expect, it } from "vitest";
import { frameHoldingDevices, memoryEncryption, remapHazards } from "../../../src/vm/hazards.js";
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
    expect(await remapHazards(qemu.qmp)).toEqual([]);
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
    const hazards = await remapHazards(qemu.qmp);
    expect(hazards).toContain("device ivshmem-plain");
    expect(hazards).toContain("device virtio-mem-pci");
  });

  it("a migration of the VM itself is named while it lasts", async () => {
    await using qemu = await PausedQemu.start();
    await qemu.qmp.execute("migrate-set-parameters", { "max-bandwidth": 1 });
    await qemu.qmp.execute("migrate", { uri: "exec:cat >/dev/null" });
    expect(await remapHazards(qemu.qmp)).toEqual([
      expect.stringMatching(/^a migration of the VM itself \((setup|active)\)$/),
    ]);
    await qemu.qmp.execute("migrate_cancel");
    await expect.poll(() => remapHazards(qemu.qmp), { timeout: 10_000 }).toEqual([]);
  });

  it("a measurement of its dirty rate is named while it lasts", async () => {
    await using qemu = await PausedQemu.start();
    await qemu.qmp.execute("calc-dirty-rate", { "calc-time": 1 });
    expect(await remapHazards(qemu.qmp)).toEqual(["a measurement of its dirty rate"]);
    await expect.poll(() => remapHazards(qemu.qmp), { timeout: 10_000 }).toEqual([]);
  });
});

/** What is in the way of touching guest RAM, as far as a QEMU can have it here; the rest as a QEMU would say it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findHazards, memoryEncryption } from "../../../src/vm/hazards.js";
import { QmpClient } from "../../../src/vm/qmp.js";
import { answer, monitor } from "./fake-monitor.js";
import { PausedQemu } from "./paused-qemu.js";
import { vhostUserBackend } from "./vhost-user-backend.js";

const remapHazards = async (qmp: QmpClient): Promise<readonly string[]> => (await findHazards(qmp)).remap;
const changeHazards = async (qmp: QmpClient): Promise<readonly string[]> => (await findHazards(qmp)).change;

describe("a real QEMU", () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "mwarp-vhost-"));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it("with a vhost-user network back end behind an ordinary network card is not remapped", async () => {
    const path = join(directory, "vhost.sock");
    await using _backend = await vhostUserBackend(path);
    await using qemu = await PausedQemu.start({
      devices: [
        ...["-chardev", `socket,id=vhost0,path=${path}`],
        ...["-netdev", "vhost-user,id=net0,chardev=vhost0"],
        ...["-device", "virtio-net-pci,netdev=net0,romfile="],
      ],
    });
    expect(await remapHazards(qemu.qmp)).toEqual(["device vhost-user"]);
  });

  it("with a vhost-user back end for encryption is not remapped", async () => {
    const path = join(directory, "crypto.sock");
    await using _backend = await vhostUserBackend(path);
    await using qemu = await PausedQemu.start({
      devices: [
        ...["-chardev", `socket,id=vhost0,path=${path}`],
        ...["-object", "cryptodev-vhost-user,id=crypto0,chardev=vhost0"],
      ],
    });
    expect(await remapHazards(qemu.qmp)).toEqual(["device cryptodev-vhost-user"]);
  });

  it("with an SEV guest's object has encrypted memory", async () => {
    await using qemu = await PausedQemu.start({
      devices: ["-object", "sev-guest,id=sev0,cbitpos=47,reduced-phys-bits=1"],
    });
    expect(await memoryEncryption(qemu.qmp)).toBe("sev-guest");
  });
});

describe("a QEMU that says so", () => {
  interface Words {
    /** Types of what lies below /objects. */
    readonly objects?: readonly string[];
    readonly qtree?: string;
    readonly network?: string;
    readonly migration?: string;
    readonly dirtyRate?: string;
    readonly blockDriver?: string;
  }

  async function saying(words: Words): Promise<QmpClient> {
    const results: Readonly<Record<string, unknown>> = {
      qmp_capabilities: {},
      "qom-list": ["memory-backend-memfd", ...(words.objects ?? [])].map((type, index) => ({
        name: `object${index}`,
        type: `child<${type}>`,
      })),
      "query-migrate": words.migration === undefined ? {} : { status: words.migration },
      "query-status": { status: "running" },
      "query-named-block-nodes": ["raw", "file", words.blockDriver ?? "qcow2"].map((drv) => ({ drv })),
      "query-dirty-rate": { status: words.dirtyRate ?? "unstarted" },
      "info qtree": words.qtree ?? "bus: main-system-bus\n",
      "info network": words.network ?? "",
    };
    const path = await monitor((socket, line) => {
      const { execute, arguments: given } = JSON.parse(line) as {
        execute: string;
        arguments?: { "command-line"?: string };
      };
      answer(socket, line, results[given?.["command-line"] ?? execute]);
    });
    return QmpClient.open(path);
  }

  it.each(["sev-guest", "sev-snp-guest", "tdx-guest"])(
    "that it has a %s has encrypted memory",
    async (type) => {
      using qmp = await saying({ objects: [type] });
      expect(await memoryEncryption(qmp)).toBe(type);
    },
  );

  it.each(["secret", "sev-guest-like", "not-tdx-guest", "memory-backend-file"])(
    "that it has a %s has not",
    async (type) => {
      using qmp = await saying({ objects: [type] });
      expect(await memoryEncryption(qmp)).toBeNull();
      expect(await remapHazards(qmp)).toEqual([]);
    },
  );

  it.each<[string, Words, string]>([
    ["an iommufd", { objects: ["iommufd"] }, "device iommufd"],
    ["a device in another process", { objects: ["x-remote-object"] }, "device x-remote-object"],
    ["a vfio-user server", { objects: ["x-vfio-user-server"] }, "device x-vfio-user-server"],
    ["a vhost-user back end", { objects: ["vhost-user-backend"] }, "device vhost-user-backend"],
    ["a vDPA network", { network: "net0: index=0,type=vhost-vdpa,vhostdev=x\n" }, "device vhost-vdpa"],
    ["a VFIO device", { qtree: '  dev: vfio-pci, id "x"\n' }, "device vfio-pci"],
    ["its disk driven by QEMU itself", { blockDriver: "nvme" }, "block driver nvme"],
    [
      "a disk in another process",
      { blockDriver: "virtio-blk-vhost-user" },
      "block driver virtio-blk-vhost-user",
    ],
    ["its dirty rate measured", { dirtyRate: "measuring" }, "a measurement of its dirty rate"],
  ])("that it has %s is not remapped", async (_name, words, hazard) => {
    using qmp = await saying(words);
    expect(await remapHazards(qmp)).toEqual([hazard]);
  });

  it.each(["setup", "active", "postcopy-active", "device"])(
    "that it is itself migrated (%s) is not to be changed from outside at all",
    async (status) => {
      using qmp = await saying({ migration: status });
      expect(await changeHazards(qmp)).toEqual([`a migration or snapshot of the VM itself (${status})`]);
    },
  );

  it.each(["none", "completed", "failed", "cancelled"])(
    "of a migration only that it is %s is remapped and changed",
    async (status) => {
      using qmp = await saying({ migration: status, network: "net0: index=0,type=tap,ifname=t\n" });
      expect(await findHazards(qmp)).toEqual({ runState: "running", remap: [], change: [] });
    },
  );

  it("names everything that is in the way, each once", async () => {
    const device = '  dev: vhost-user-blk-pci, id "a"\n';
    using qmp = await saying({
      qtree: device + device,
      objects: ["iommufd"],
      migration: "active",
      dirtyRate: "measuring",
    });
    expect(await findHazards(qmp)).toEqual({
      runState: "running",
      remap: ["device vhost-user-blk-pci", "device iommufd", "a measurement of its dirty rate"],
      change: ["a migration or snapshot of the VM itself (active)"],
    });
  });
});

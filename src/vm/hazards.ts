/**
 * What makes it wrong to touch guest RAM behind a VMM's back (invariant I5). Parts that hold on to frames by file offset or
 * by physical address forbid a remap; the VM's own migration or snapshot forbids copies, too: what is written from outside
 * is in no dirty bitmap and would be left behind. Asked anew for each migration, since all of it comes and goes.
 */
import * as z from "zod/mini";
import type { QmpCallOptions, QmpClient } from "./qmp.js";

/** Devices whose other end maps guest RAM by offset, or does DMA to pinned frames; as `info qtree` names them. */
const DEVICE =
  /^(vfio-|vhost-user-|vhost-vdpa|virtio-mem|x-vfio-user|vfio-user|ivshmem|x-remote|x-pci-proxy)/;
/** Vhost-user and vDPA network back ends hang behind an ordinary virtio-net device. */
const NETDEVS = /type=(vhost-user|vhost-vdpa)\b/g;
/** Back ends as `qom-list /objects` types them: they map guest RAM by offset, or pin it for an I/O MMU. */
const OBJECT =
  /^child<(iommufd|x-remote-object|x-vfio-user-server|vhost-user-backend|cryptodev-vhost-user)>$/;
/**
 * Block drivers of QEMU's own that give guest RAM to a device or to another process: VFIO in user space (block/nvme.c maps all RAM
 * for DMA), and libblkio's (block/blkio.c registers RAM blocks by descriptor and offset).
 */
const BLOCK_DRIVERS: ReadonlySet<string> = new Set([
  "nvme",
  "io_uring",
  "nvme-io_uring",
  "virtio-blk-vfio-pci",
  "virtio-blk-vhost-user",
  "virtio-blk-vhost-vdpa",
]);
/** Encrypted guests: what the host reads of their memory is no page table, and what it writes is no data. */
const ENCRYPTED = /^child<(sev-guest|sev-snp-guest|tdx-guest)>$/;

const MigrateSchema = z.object({ status: z.optional(z.string()) });
const IDLE = new Set([undefined, "none", "completed", "failed", "cancelled"]);
const ObjectsSchema = z.array(z.object({ name: z.string(), type: z.string() }));
const BlockNodesSchema = z.array(z.object({ drv: z.string() }));
const DirtyRateSchema = z.object({ status: z.string() });
const RunStateSchema = z.object({ status: z.string() });

/**
 * Names of devices in the text of `info qtree` that hold on to guest frames. A virtio-gpu with blob resources does, too:
 * its scanouts are udmabufs over guest RAM.
 */
export function frameHoldingDevices(qtree: string): string[] {
  const found: string[] = [];
  let device = "";
  for (const line of qtree.split("\n")) {
    const name = /^\s*dev: ([\w-]+)/.exec(line)?.[1];
    if (name !== undefined) {
      device = name;
      if (DEVICE.test(name)) found.push(name);
    } else if (/^virtio-(gpu|vga)/.test(device) && /^\s*blob = true\s*$/.test(line)) {
      found.push(`${device} with blob resources`);
    }
  }
  return found;
}

export interface VmHazards {
  /** What QEMU says the VM does: "running" when all is well (QAPI RunState). */
  readonly runState: string;
  /** Names of what is in the way of remapping; copying into frames is safe with all of them. */
  readonly remap: readonly string[];
  /** Names of what is in the way of any change of memory from outside the VMM. */
  readonly change: readonly string[];
}

export async function findHazards(qmp: QmpClient, options: QmpCallOptions = {}): Promise<VmHazards> {
  const devices = frameHoldingDevices(await qmp.humanCommand("info qtree", options));
  const network = (await qmp.humanCommand("info network", options)).matchAll(NETDEVS);
  const netdevs = [...network].map(([, name]) => name);
  const objects = await objectsLike(qmp, OBJECT, options);
  const nodes = z.parse(
    BlockNodesSchema,
    await qmp.execute("query-named-block-nodes", { flat: true }, options),
  );
  const drivers = nodes.flatMap(({ drv }) => (BLOCK_DRIVERS.has(drv) ? [`block driver ${drv}`] : []));
  const remap = [...[...devices, ...netdevs, ...objects].map((name) => `device ${name}`), ...drivers];
  const dirtyRate = z.parse(DirtyRateSchema, await qmp.execute("query-dirty-rate", {}, options));
  if (dirtyRate.status === "measuring") remap.push("a measurement of its dirty rate");
  const { status } = z.parse(RunStateSchema, await qmp.execute("query-status", {}, options));
  return { runState: status, remap: [...new Set(remap)], change: await changeHazards(qmp, options) };
}

/** The part of it that may begin at any time and is asked for again inside the stun. */
export async function changeHazards(qmp: QmpClient, options: QmpCallOptions = {}): Promise<string[]> {
  const { status } = z.parse(MigrateSchema, await qmp.execute("query-migrate", {}, options));
  return IDLE.has(status) ? [] : [`a migration or snapshot of the VM itself (${status})`];
}

/** What encrypts the guest's memory, by type; null when nothing does. */
export async function memoryEncryption(qmp: QmpClient, options: QmpCallOptions = {}): Promise<string | null> {
  return (await objectsLike(qmp, ENCRYPTED, options))[0] ?? null;
}

async function objectsLike(qmp: QmpClient, type: RegExp, options: QmpCallOptions): Promise<string[]> {
  const objects = z.parse(ObjectsSchema, await qmp.execute("qom-list", { path: "/objects" }, options));
  return objects.flatMap((object) => type.exec(object.type)?.[1] ?? []);
}

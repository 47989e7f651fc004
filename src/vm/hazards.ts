/**
 * What makes it wrong to change what backs guest RAM under a VMM: parts that hold on to frames by file offset or by
 * physical address (invariant I5), and dirty tracking. Asked anew for each migration, since devices come and go.
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
/** Encrypted guests: what the host reads of their memory is no page table, and what it writes is no data. */
const ENCRYPTED = /^child<(sev-guest|sev-snp-guest|tdx-guest)>$/;

const MigrateSchema = z.object({ status: z.optional(z.string()) });
const IDLE = new Set([undefined, "none", "completed", "failed", "cancelled"]);
const ObjectsSchema = z.array(z.object({ name: z.string(), type: z.string() }));
const DirtyRateSchema = z.object({ status: z.string() });

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

/** Names of what is in the way of remapping; copying into frames is safe with all of them. */
export async function remapHazards(qmp: QmpClient, options: QmpCallOptions = {}): Promise<string[]> {
  const devices = frameHoldingDevices(await qmp.humanCommand("info qtree", options));
  const network = (await qmp.humanCommand("info network", options)).matchAll(NETDEVS);
  const netdevs = [...network].map(([, name]) => name);
  const objects = await objectsLike(qmp, OBJECT, options);
  const hazards = [...devices, ...netdevs, ...objects].map((name) => `device ${name}`);
  const { status } = z.parse(MigrateSchema, await qmp.execute("query-migrate", {}, options));
  if (!IDLE.has(status)) hazards.push(`a migration of the VM itself (${status})`);
  const dirtyRate = z.parse(DirtyRateSchema, await qmp.execute("query-dirty-rate", {}, options));
  if (dirtyRate.status === "measuring") hazards.push("a measurement of its dirty rate");
  return [...new Set(hazards)];
}

/** What encrypts the guest's memory, by type; null when nothing does. */
export async function memoryEncryption(qmp: QmpClient, options: QmpCallOptions = {}): Promise<string | null> {
  return (await objectsLike(qmp, ENCRYPTED, options))[0] ?? null;
}

async function objectsLike(qmp: QmpClient, type: RegExp, options: QmpCallOptions): Promise<string[]> {
  const objects = z.parse(ObjectsSchema, await qmp.execute("qom-list", { path: "/objects" }, options));
  return objects.flatMap((object) => type.exec(object.type)?.[1] ?? []);
}

/**
 * What makes it wrong to change what backs guest RAM under a VMM: parts that hold on to frames by file offset or by
 * physical address (invariant I5), and dirty tracking. Asked anew for each migration, since devices come and go.
 */
import * as z from "zod/mini";
import type { QmpCallOptions, QmpClient } from "./qmp.js";

/** Devices whose other end maps guest RAM by offset, or does DMA to pinned frames; as `info qtree` names them. */
const DEVICES =
  /^\s*dev: (vfio-[\w-]+|vhost-user-[\w-]+|vhost-vdpa[\w-]*|virtio-mem[\w-]*|x-vfio-user[\w-]*|ivshmem[\w-]*)/gm;
/** Vhost-user and vDPA network back ends hang behind an ordinary virtio-net device. */
const NETDEVS = /type=(vhost-user|vhost-vdpa)\b/g;

const MigrateSchema = z.object({ status: z.optional(z.string()) });
const IDLE = new Set([undefined, "none", "completed", "failed", "cancelled"]);

/** Names of what is in the way of remapping; copying into frames is safe with all of them. */
export async function remapHazards(qmp: QmpClient, options: QmpCallOptions = {}): Promise<string[]> {
  const devices = (await qmp.humanCommand("info qtree", options)).matchAll(DEVICES);
  const netdevs = (await qmp.humanCommand("info network", options)).matchAll(NETDEVS);
  const hazards = [...devices, ...netdevs].map(([, name]) => `device ${name}`);
  const { status } = z.parse(MigrateSchema, await qmp.execute("query-migrate", {}, options));
  if (!IDLE.has(status)) hazards.push(`a migration of the VM itself (${status})`);
  return [...new Set(hazards)];
}

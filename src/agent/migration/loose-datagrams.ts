/** Datagrams that have come and that nobody has read: CRIU drops them, so they are read on the source and handed in again. */
import { readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import type { Task } from "../../protocol/agent.js";
import type { ContainerSpec, NetworkIdentity } from "../../protocol/container.js";
import { LOOSE_DATAGRAMS, MOST_LOOSE_BYTES } from "../../protocol/loose-connection.js";
import { exists } from "../files.js";
import type { Helper } from "../helper.js";
import { log } from "../log.js";
import { readBytes, writeFile } from "../memory-files.js";
import { internetSockets } from "../proc-net.js";
import { isOwn } from "./addresses.js";
import { linkOf } from "./loose-connections.js";

/** struct datagram (native/guest/datagrams.h): family, the addresses of both, their ports, bytes; those follow. */
const HEAD_BYTES = 44;

/** Writes them down beside the images. The container is frozen and its fence shut. UDP promises nothing: what cannot be read is lost. */
export async function keepDatagrams(
  images: string,
  tasks: readonly Task[],
  { name, network }: ContainerSpec,
  helper: Helper,
): Promise<void> {
  const init = tasks.find(({ nsPid }) => nsPid === 1);
  if (init === undefined) return;
  const full = (await internetSockets(init.pid, "udp")).filter(({ unread }) => unread > 0);
  const found: Buffer[] = [];
  for (const { inode, port } of full) {
    const holder = whoHas(tasks, inode);
    // In the queue of another socket: it is nobody's yet.
    if (holder === null) continue;
    await helper
      .peekDatagrams(holder.pid, holder.fd)
      .then((records) => found.push(...deliverable(records, network)))
      .catch((error: unknown) =>
        log("warn", `${name}: datagrams at port ${port} are lost: ${String(error)}`),
      );
  }
  const data = Buffer.concat(found);
  if (data.length > MOST_LOOSE_BYTES) log("warn", `${name}: ${data.length} bytes of datagrams are lost`);
  else if (data.length > 0) await writeFile(join(images, LOOSE_DATAGRAMS), data);
}

/**
 * Those records that come to the same one socket when they are handed in from outside: what was sent to a group lies in the queue of each of
 * its members, and would come to each of them as often; what came from within has no such way in.
 */
export function deliverable(records: Buffer, network: NetworkIdentity): Buffer[] {
  const wanted: Buffer[] = [];
  for (let at = 0; at + HEAD_BYTES <= records.length; ) {
    const bytes = records.readUInt32LE(at) === 4 ? 4 : 16;
    const end = at + HEAD_BYTES + records.readUInt32LE(at + 40);
    const [address, peer] = [at + 4, at + 20].map((from) => [...records.subarray(from, from + bytes)]);
    if (isOwn(address ?? [], network) && !isOwn(peer ?? [], network)) wanted.push(records.subarray(at, end));
    at = end;
  }
  return wanted;
}

function whoHas(tasks: readonly Task[], inode: number): { pid: number; fd: number } | null {
  for (const { pid } of tasks)
    for (const fd of readdirSync(`/proc/${pid}/fd`))
      if (readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`) return { pid, fd: Number(fd) };
  return null;
}

/** Hands in what came with the images. The container is restored and frozen, its fence still shut. */
export async function deliverDatagrams(images: string, spec: ContainerSpec, helper: Helper): Promise<void> {
  const file = join(images, LOOSE_DATAGRAMS);
  if (!(await exists(file))) return;
  await helper
    .deliverDatagrams(linkOf(spec), await readBytes(file))
    .catch((error: unknown) => log("warn", `datagrams of ${spec.name} are lost: ${String(error)}`));
}

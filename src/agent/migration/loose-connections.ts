/**
 * TCP connections that no task has, between two VMs. /proc says which there are; what they hold is read from the kernel's memory on
 * the source, and handed in again on the destination. Either side then asks /proc whether that was all.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { MwarpError } from "../../errors.js";
import type { Task } from "../../protocol/agent.js";
import type { ContainerSpec } from "../../protocol/container.js";
import {
  LOOSE_DATA,
  LOOSE_FILE,
  type LooseConnection,
  LooseConnectionsSchema,
} from "../../protocol/loose-connection.js";
import { BRIDGE, CONTAINER_DEVICE, vethName } from "../containers/network.js";
import { exists } from "../files.js";
import type { Helper } from "../helper.js";
import type { LinkPlace, LooseConnections } from "../helper-loose.js";
import { kernelFacts } from "../kernel/facts.js";
import { type LooseSocket, readLoose } from "../kernel/tcp-sockets.js";
import { triedTcp } from "../kernel/tcp-trial.js";
import { log } from "../log.js";
import { readBytes, readText, writeFile } from "../memory-files.js";
import { containerPaths } from "../paths.js";
import type { InternetSocket } from "../proc-net.js";
import { judgeSockets, looseOnes } from "./loose-faults.js";

const ATTEMPTS = 5;
const AGAIN_MS = 5;
const ADMITTED_MS = 300;
/**
 * In how long segments what was received is handed in, from one attempt to the next. A socket has room for most in long ones; the last of
 * its window may have room for short ones only. A window that has not grown takes no more than USUAL_BYTES.
 */
const SEGMENT_BYTES = { usual: [28_000, 4_000, 1_400, 1_400], grown: [64_000, 8_000, 1_400, 1_400] } as const;
const USUAL_BYTES = 122_000;
const TRY_AGAIN = "Try again when the container has accepted them.";

/** The addresses of requests are not listed right where an IPv4 one came to an IPv6 socket; nor whether their peer has answered. */
const keys = (all: readonly Pick<LooseConnection, "kind" | "port" | "peerPort">[]): string =>
  all
    .map(({ kind, port, peerPort }) => `${kind === "closed"} ${port} ${peerPort}`)
    .sort()
    .join();

/** All but the time of day. */
function areAlike(some: readonly LooseSocket[], others: readonly LooseSocket[]): boolean {
  const facts = ({ connection }: LooseSocket) =>
    JSON.stringify({ ...connection, timestamps: connection.timestamps?.peers });
  return (
    some.length === others.length &&
    some.every((one, i) => {
      const other = others[i] as LooseSocket;
      return (
        facts(one) === facts(other) &&
        one.received.equals(other.received) &&
        one.outgoing.equals(other.outgoing)
      );
    })
  );
}

/**
 * All of a container that is frozen, its fence shut. The kernel's own clocks still run: it repeats what was not confirmed, and gives up on
 * handshakes. So what counts is what was read twice, and is all that /proc lists.
 * @throws MWARP_E_DUMP
 */
async function readSettled(pid: number): Promise<LooseSocket[]> {
  const [facts, tcp] = await Promise.all([kernelFacts(), triedTcp()]);
  let why = "this VM's kernel does not show them";
  for (let attempt = 0; attempt < ATTEMPTS && tcp !== null; attempt++) {
    try {
      const [first, second] = [readLoose(facts, tcp, pid), readLoose(facts, tcp, pid)];
      const listed = await looseOnes(pid);
      const found = second.map(({ connection }) => connection);
      if (keys(found) === keys(listed) && areAlike(first, second)) return second;
      why = `${listed.length} are listed, ${second.length} were found`;
    } catch (error) {
      why = String(error);
    }
    await sleep(AGAIN_MS);
  }
  throw new MwarpError("MWARP_E_DUMP", `TCP connections that no process has could not be read: ${why}`);
}

/**
 * Writes down beside the images what no image has. The container is frozen and its fence shut.
 * @throws MWARP_E_DUMP when such connections cannot be read, or came since preflight and cannot move
 */
export async function keepLoose(images: string, tasks: readonly Task[], spec: ContainerSpec): Promise<void> {
  const init = tasks.find(({ nsPid }) => nsPid === 1);
  if (init === undefined) throw new MwarpError("MWARP_E_INTERNAL", "a container without its first process");
  if ((await looseOnes(init.pid)).length === 0) return;
  const sockets = await readSettled(init.pid);
  const [fault, ...others] = judgeSockets(sockets, spec.network);
  if (fault !== undefined) throw new MwarpError("MWARP_E_DUMP", fault, { details: others, hint: TRY_AGAIN });
  await writeFile(join(images, LOOSE_FILE), JSON.stringify(sockets.map(({ connection }) => connection)));
  const data = sockets.flatMap(({ received, outgoing }) => [received, outgoing]);
  await writeFile(join(images, LOOSE_DATA), Buffer.concat(data));
}

/** What came with the images; null when nothing did. */
async function readKept(images: string): Promise<LooseConnections | null> {
  if (!(await exists(join(images, LOOSE_FILE)))) return null;
  const parsed = LooseConnectionsSchema.safeParse(JSON.parse(await readText(join(images, LOOSE_FILE))));
  if (!parsed.success) throw new MwarpError("MWARP_E_IMAGE", `${LOOSE_FILE} has no such connections`);
  const connections = parsed.data;
  const data = await readBytes(join(images, LOOSE_DATA));
  const bytes = connections.reduce((sum, { received, outgoing }) => sum + received + outgoing, 0);
  if (bytes !== data.length)
    throw new MwarpError("MWARP_E_IMAGE", `${LOOSE_DATA} has ${data.length} bytes, not ${bytes}`);
  return { connections, data, segmentBytes: SEGMENT_BYTES.usual[0] };
}

/**
 * Hands in what waited on the source, and sees that what had been closed there can be made here. The container is restored and frozen,
 * its fence still shut.
 * @throws MWARP_E_RESTORE when this VM's kernel does not take all of it
 */
export async function admitLoose(
  images: string,
  spec: ContainerSpec,
  pid: number,
  helper: Helper,
): Promise<void> {
  const kept = await readKept(images);
  if (kept === null) return;
  const { connections } = kept;
  if (connections.some(({ kind }) => kind === "closed"))
    await helper.tryReopen(linkOf(spec), kept).catch((cause: unknown) => {
      throw new MwarpError(
        "MWARP_E_RESTORE",
        `a connection that was closed could not be made anew: ${String(cause)}`,
        { cause },
      );
    });
  const coming = connections.filter(({ kind }) => kind !== "closed");
  if (coming.length === 0) return;
  const kfunc = (await triedTcp())?.admit ?? null;
  if (kfunc === null) throw notTaken(coming);
  const waiting = connections.filter(({ kind }) => kind === "waiting");
  const isGrown = waiting.some(({ received }) => received > USUAL_BYTES);
  for (const segmentBytes of SEGMENT_BYTES[isGrown ? "grown" : "usual"]) {
    // What was taken already stays as it is: to it the packets are repetitions.
    await helper.admit(kfunc, linkOf(spec), { ...kept, segmentBytes });
    if (await isAdmitted(connections, pid)) return;
  }
  throw notTaken(waiting);
}

function notTaken(connections: readonly LooseConnection[]): MwarpError {
  const ports = [...new Set(connections.map(({ port }) => port))].join(", ");
  return new MwarpError(
    "MWARP_E_RESTORE",
    `the destination's kernel has not taken over TCP connections that wait to be accepted (port ${ports})`,
    { hint: TRY_AGAIN },
  );
}

/**
 * Packets are handled within the call that sends them, or by the next softirq. Of those that have answered not all have room: they were in no
 * queue yet. Such a one is made with its peer's next words.
 */
async function isAdmitted(connections: readonly LooseConnection[], pid: number): Promise<boolean> {
  const wanted = holdings(connections.filter(({ kind }) => kind === "waiting"));
  const answered = new Set(connections.filter(({ kind }) => kind === "answered").map(endsOf));
  for (const end = performance.now() + ADMITTED_MS; ; ) {
    const here = (await looseOnes(pid)).filter((one) => one.kind === "waiting" && !answered.has(endsOf(one)));
    if (holdings(here.map((socket) => ({ ...socket, received: socket.unread, ended: false }))) === wanted)
      return true;
    if (performance.now() > end) return false;
    await sleep(1);
  }
}

/**
 * Opens the fence for a container that has just come, once what it had closed is there to be found; those whose handshake is open then hear
 * from it. May be done again.
 */
export async function openToLoose(images: string, spec: ContainerSpec, helper: Helper): Promise<void> {
  const kept = await readKept(images).catch((error: unknown) => {
    log("error", `${spec.name}: ${String(error)}`);
    return null;
  });
  if (kept === null || kept.connections.every(({ kind }) => kind === "waiting")) {
    await helper.openFence(vethName(spec), BRIDGE);
    return;
  }
  const failed = await helper.reopen(linkOf(spec), kept);
  if (failed > 0) log("warn", `${spec.name}: ${failed} connections that it had closed were not made anew`);
}

export const linkOf = (spec: ContainerSpec): LinkPlace => ({
  netns: containerPaths(spec.name).netns,
  device: CONTAINER_DEVICE,
  veth: vethName(spec),
  bridge: BRIDGE,
  mac: spec.network.mac,
});

type Ends = Pick<InternetSocket, "address" | "port" | "peer" | "peerPort">;
const endsOf = ({ address, port, peer, peerPort }: Ends): string =>
  [...address, port, ...peer, peerPort].join();

/** Who waits, with how much. */
const holdings = (all: readonly (Ends & Pick<LooseConnection, "received" | "ended">)[]): string =>
  all
    .map((one) => `${endsOf(one)} ${one.received + (one.ended ? 1 : 0)}`)
    .sort()
    .join(";");

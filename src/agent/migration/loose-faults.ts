/**
 * TCP connections of a container that no task has, and which of them cannot move: what is refused before the container is touched, and
 * again should it come after that.
 */
import type { Task } from "../../protocol/agent.js";
import type { ContainerSpec, NetworkIdentity } from "../../protocol/container.js";
import { type LooseConnection, MOST_LOOSE, MOST_LOOSE_BYTES } from "../../protocol/loose-connection.js";
import { kernelFacts } from "../kernel/facts.js";
import { type LooseSocket, readLoose } from "../kernel/tcp-sockets.js";
import { triedTcp } from "../kernel/tcp-trial.js";
import { log } from "../log.js";
import { type InternetSocket, internetSockets, TcpState } from "../proc-net.js";
import { addressText, isLinkLocal, isOwn } from "./addresses.js";

type Kind = LooseConnection["kind"];
type Ends = Pick<LooseConnection, "kind" | "address" | "peer">;

const kindOf = (state: number): LooseConnection["kind"] | null => {
  if (state === TcpState.synRecv) return "opening";
  if (state === TcpState.established || state === TcpState.closeWait) return "waiting";
  const closed: readonly number[] = [TcpState.finWait1, TcpState.lastAck, TcpState.closing];
  return closed.includes(state) ? "closed" : null;
};

/** Connections of a task's network namespace that no descriptor leads to. */
export async function looseOnes(
  pid: number,
): Promise<(InternetSocket & { kind: LooseConnection["kind"] })[]> {
  return (await internetSockets(pid, "tcp")).flatMap((socket) => {
    const kind = socket.inode === 0 ? kindOf(socket.state) : null;
    return kind === null ? [] : [{ ...socket, kind }];
  });
}

const words: Readonly<Record<Kind, string>> = {
  waiting: "that nobody has accepted",
  opening: "that is being opened",
  answered: "that has not said anything yet",
  closed: "that was closed before its peer had all",
};

/** What `inspect` says of them: why some cannot move, and the ports of those that not every kernel takes over. */
export async function inspectLoose(
  tasks: readonly Task[],
  { network }: ContainerSpec,
): Promise<{ faults: string[]; ports: number[] }> {
  const init = tasks.find(({ nsPid }) => nsPid === 1);
  const listed = init === undefined ? [] : await looseOnes(init.pid);
  const waiting = listed.filter(({ kind }) => kind !== "closed");
  const ports = [...new Set(waiting.map(({ port }) => port))];
  if (init === undefined || listed.length === 0) return { faults: [], ports };
  const tcp = await triedTcp();
  if (tcp === null) return { faults: judgeUnseen(listed), ports };
  const facts = await kernelFacts();
  try {
    return { faults: judgeSockets(readLoose(facts, tcp, init.pid), network), ports };
  } catch (error) {
    // The container runs: what it does with a connection while that is read makes no sense.
    log("info", `connections that no process has were not looked at: ${String(error)}`);
    return { faults: [], ports };
  }
}

/** Where the kernel shows no more of them than that they are there. */
export function judgeUnseen(listed: readonly Pick<LooseConnection, "kind" | "port">[]): string[] {
  const named = listed.map(
    ({ kind, port }) =>
      `the container: TCP connections at port ${port} ${words[kind]}, of which its VM's kernel tells no more`,
  );
  return [...new Set(named)];
}

/** Why some cannot move, each named. */
export function judgeSockets(sockets: readonly LooseSocket[], network: NetworkIdentity): string[] {
  const bytes = sockets.reduce((sum, { received, outgoing }) => sum + received.length + outgoing.length, 0);
  const faults = sockets.flatMap(({ connection, fault }) => {
    const why = fault ?? judgeEnds(connection, network);
    const { kind, peer, port } = connection;
    return why === null
      ? []
      : [`the container: a TCP connection of ${addressText(peer)} at port ${port} ${words[kind]}: ${why}`];
  });
  if (sockets.length > MOST_LOOSE || bytes > MOST_LOOSE_BYTES)
    faults.push(`the container: ${sockets.length} TCP connections that no process has, with ${bytes} bytes`);
  return [...new Set(faults)];
}

/** Packets are handed in from outside, to the addresses that go with the container. What is closed needs none. */
function judgeEnds({ kind, address, peer }: Ends, network: NetworkIdentity): string | null {
  if (isOwn(peer, network) && kind !== "closed") return "both ends are in the container";
  if (isLinkLocal(address) || isLinkLocal(peer)) return "its addresses are link-local";
  return isOwn(address, network) ? null : `${addressText(address)} is not an address of the container`;
}

/** Client of the resident helper `mwarp-guest pages`: page loops, links and mounts without starting a process. */
import { type ChildProcess, spawn } from "node:child_process";
import { MwarpError } from "../errors.js";
import type { PageRun } from "../protocol/agent.js";
import type { Connection } from "../protocol/connection.js";
import type { NetworkIdentity } from "../protocol/container.js";
import { addressBytes } from "../protocol/ip-address.js";
import { PAGE_BYTES } from "../units.js";
import { encodeLooseBody, type LinkPlace, type LooseConnections } from "./helper-loose.js";
import { log } from "./log.js";
import { HELPER } from "./paths.js";

const operations = {
  populate: 1,
  read: 2,
  write: 3,
  poke: 4,
  fence: 5,
  announce: 6,
  overlay: 7,
  unmount: 8,
  sockets: 9,
  bind: 10,
  wake: 11,
  present: 12,
  traits: 13,
  trait: 14,
  quiet: 15,
  admit: 16,
  reopen: 17,
  deliver: 18,
  peek: 19,
  unix: 20,
  incoming: 21,
} as const;
const ANSWER_BYTES = 16;

interface Answer {
  readonly status: number;
  readonly value: number;
}

export interface Poke {
  readonly address: number;
  readonly value: bigint;
}

/** Pages of one task, by number. */
export type PageSpan = Pick<PageRun, "page" | "pages">;

/** One helper process; requests wait for each other. A helper that dies fails its request and is started again. */
export class Helper {
  #child: ChildProcess | null = null;
  #turn: Promise<unknown> = Promise.resolve();
  #buffer: Buffer = Buffer.alloc(0);
  #wake: (() => void) | null = null;

  /** Starts the process ahead of the first request. */
  start(): void {
    if (this.#child) return;
    const child = spawn(HELPER, ["pages"], { stdio: ["pipe", "pipe", "ignore"] });
    this.#child = child;
    this.#buffer = Buffer.alloc(0);
    const gone = () => {
      if (this.#child !== child) return;
      this.#child = null;
      this.#wake?.();
    };
    child.on("error", gone);
    child.on("exit", (code) => {
      log("warn", `helper ended with ${code}`);
      gone();
    });
    child.stdin?.on("error", gone);
    child.stdout?.on("data", (data: Buffer) => {
      this.#buffer = this.#buffer.length === 0 ? data : Buffer.concat([this.#buffer, data]);
      this.#wake?.();
    });
  }

  /** Faults the runs in; answers with the number of pages touched. */
  populate(pid: number, runs: readonly PageRun[]): Promise<number> {
    return this.#simple("populate", pid, runs.length, encodeRuns(runs));
  }

  /** Of the runs, those parts of 16 pages and more that a task has in memory, private and to the last page; see native/guest/present.c. */
  presentRuns(pid: number, runs: readonly PageRun[]): Promise<PageSpan[]> {
    return this.#exclusive(async () => {
      this.#request("present", pid, runs.length, encodeRuns(runs));
      const { value } = await this.#answer("present");
      return decodeSpans(await this.#take(value));
    });
  }

  poke(pid: number, pokes: readonly Poke[]): Promise<number> {
    const body = Buffer.alloc(pokes.length * 16);
    for (const [i, poke] of pokes.entries()) {
      body.writeBigUInt64LE(BigInt(poke.address), i * 16);
      body.writeBigUInt64LE(poke.value, i * 16 + 8);
    }
    return this.#simple("poke", pid, pokes.length, body);
  }

  /** Lets a container's traffic through: puts its veth on the bridge, or opens its port there again. */
  openFence(veth: string, bridge: string): Promise<number> {
    return this.#simple("fence", 1, 0, Buffer.from(`${veth}\0${bridge}`));
  }

  /** Nothing passes the container's port from now on. Its link stays up: no carrier change reaches the container. */
  closeFence(veth: string): Promise<number> {
    return this.#simple("fence", 0, 0, Buffer.from(veth));
  }

  /** While `on`, the sockets of a control group send nothing, not even to each other; see native/guest/quiet.c. */
  quiet(cgroup: string, on: boolean): Promise<number> {
    return this.#simple("quiet", on ? 1 : 0, 0, Buffer.from(cgroup));
  }

  /** Gratuitous ARP, and the like for IPv6, from inside a network namespace. */
  announce(netns: string, device: string, { mac, ipv4, ipv6 }: NetworkIdentity): Promise<number> {
    const bytes = [
      ...mac.split(":").map((part) => Number.parseInt(part, 16)),
      ...(addressBytes(ipv4) ?? []),
      ...(addressBytes(ipv6?.address ?? "") ?? []),
    ];
    const body = Buffer.concat([Buffer.from(bytes), Buffer.from(`${netns}\0${device}`)]);
    return this.#simple("announce", ipv6 === null ? 0 : 1, 0, body);
  }

  /** Has the peers of connections send again at once; answers with the number of those that were told. See native/guest/wake.c. */
  wakePeers(netns: string, connections: readonly Connection[]): Promise<number> {
    const bodies = connections.map(encodeConnection);
    return this.#simple("wake", 0, connections.length, Buffer.concat([...bodies, Buffer.from(netns)]));
  }

  /** Puts connections back into the queues of a container's listeners; see native/guest/admit.c. Its fence must be shut. */
  admit(kfunc: number, place: LinkPlace, loose: LooseConnections): Promise<number> {
    return this.#simple("admit", kfunc, loose.connections.length, encodeLooseBody(place, loose));
  }

  /** Fails when closed connections could not be made anew. Leaves nothing behind. */
  tryReopen(place: LinkPlace, loose: LooseConnections): Promise<number> {
    return this.#simple("reopen", 1, loose.connections.length, encodeLooseBody(place, loose));
  }

  /** Opens the fence, and has closed connections go on to send; answers with the number of those that do not. See native/guest/reopen.c. */
  reopen(place: LinkPlace, loose: LooseConnections): Promise<number> {
    return this.#simple("reopen", 0, loose.connections.length, encodeLooseBody(place, loose));
  }

  /** Datagrams that wait to be read at a task's UDP socket, which keeps them: records of native/guest/datagrams.h. */
  peekDatagrams(pid: number, fd: number): Promise<Buffer> {
    return this.#exclusive(async () => {
      this.#request("peek", pid, fd, Buffer.alloc(0));
      const { value } = await this.#answer("peek");
      return this.#take(value);
    });
  }

  /** Hands such datagrams in. The container's fence must be shut. */
  deliverDatagrams(place: LinkPlace, records: Uint8Array): Promise<number> {
    return this.#simple(
      "deliver",
      0,
      0,
      encodeLooseBody(place, { connections: [], data: records, segmentBytes: 0 }),
    );
  }

  mountOverlay(target: string, options: string): Promise<number> {
    return this.#simple("overlay", 0, 0, Buffer.from(`${target}\0${options}`));
  }

  /** mount(2) with MS_BIND: `target` shows what `source` does. */
  bindMount(source: string, target: string): Promise<number> {
    return this.#simple("bind", 0, 0, Buffer.from(`${source}\0${target}`));
  }

  /** What tar does not do with a container's files, before it unpacks them or `after`; see native/guest/incoming.c. */
  incomingFiles(dir: string, changes: Uint8Array, when: "before" | "after"): Promise<number> {
    const body = Buffer.concat([Buffer.from(`${dir}\0`), changes]);
    return this.#simple("incoming", when === "after" ? 1 : 0, 0, body);
  }

  unmount(target: string): Promise<number> {
    return this.#simple("unmount", 0, 0, Buffer.from(target));
  }

  /** The first descriptor of each kind of socket that a task has, and each that has a fault; see native/guest/sockets.c. */
  socketKinds(pid: number): Promise<string> {
    return this.#text("sockets", pid, 0, Buffer.alloc(0));
  }

  /** The UNIX sockets of a network namespace, a line for each; see native/guest/unix-diag.c. */
  unixSockets(netns: string): Promise<string> {
    return this.#text("unix", 0, 0, Buffer.from(netns));
  }

  /** Timer slack and I/O priority of the threads of some processes, where they are not the usual; see native/guest/traits.c. */
  traits(pids: readonly number[]): Promise<string> {
    const body = Buffer.alloc(pids.length * 4);
    for (const [i, pid] of pids.entries()) body.writeUInt32LE(pid, i * 4);
    return this.#text("traits", 0, pids.length, body);
  }

  /** Gives threads what `traits` said of them elsewhere; answers with their number. */
  setTraits(text: string): Promise<number> {
    return this.#simple("trait", 0, 0, Buffer.from(text));
  }

  /** Bytes of the runs, in order, piece by piece to `take`. */
  readPages(pid: number, runs: readonly PageRun[], take: (data: Uint8Array) => Promise<void>): Promise<void> {
    return this.#exclusive(async () => {
      this.#request("read", pid, runs.length, encodeRuns(runs));
      let failure: unknown = null;
      for (;;) {
        const answer = await this.#answer("read");
        if (answer.value === 0) break;
        const data = await this.#take(answer.value);
        // A taker that fails must not leave the helper's bytes to the next request.
        if (failure === null) await take(data).catch((error: unknown) => (failure = error));
      }
      if (failure !== null) throw failure;
    });
  }

  /** Writes `source` (exactly as many bytes as the runs have) into the task. */
  writePages(pid: number, runs: readonly PageRun[], source: ByteSource): Promise<void> {
    return this.#exclusive(async () => {
      this.#request("write", pid, runs.length, encodeRuns(runs));
      let left = runs.reduce((sum, run) => sum + run.pages * PAGE_BYTES, 0);
      try {
        while (left > 0) {
          const data = await source.take(Math.min(left, 256 * 1024));
          await this.#send(data);
          left -= data.length;
        }
      } catch (error) {
        // The helper waits for bytes that will never come.
        this.#child?.kill("SIGKILL");
        throw error;
      }
      await this.#answer("write");
    });
  }

  #text(
    operation: "sockets" | "unix" | "traits",
    argument: number,
    count: number,
    body: Buffer,
  ): Promise<string> {
    return this.#exclusive(async () => {
      this.#request(operation, argument, count, body);
      const { value } = await this.#answer(operation);
      return (await this.#take(value)).toString();
    });
  }

  #simple(
    operation: keyof typeof operations,
    argument: number,
    count: number,
    body: Buffer,
  ): Promise<number> {
    return this.#exclusive(async () => {
      this.#request(operation, argument, count, body);
      return (await this.#answer(operation)).value;
    });
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  #request(operation: keyof typeof operations, argument: number, count: number, body: Buffer): void {
    this.start();
    const head = Buffer.alloc(16);
    head.writeUInt32LE(operations[operation], 0);
    head.writeUInt32LE(argument, 4);
    head.writeUInt32LE(count, 8);
    head.writeUInt32LE(body.length, 12);
    this.#child?.stdin?.write(Buffer.concat([head, body]));
  }

  #send(data: Uint8Array): Promise<void> {
    const stdin = this.#child?.stdin;
    if (!stdin) return Promise.reject(new MwarpError("MWARP_E_RUNTIME", "the helper ended"));
    return new Promise((resolve, reject) => {
      stdin.write(data, (error) => (error ? reject(error) : resolve()));
    });
  }

  async #answer(operation: string): Promise<Answer> {
    const bytes = await this.#take(ANSWER_BYTES);
    const status = bytes.readInt32LE(0);
    if (status < 0) {
      throw new MwarpError("MWARP_E_RUNTIME", `helper: ${operation} failed with errno ${-status}`);
    }
    return { status, value: Number(bytes.readBigUInt64LE(8)) };
  }

  async #take(bytes: number): Promise<Buffer> {
    while (this.#buffer.length < bytes) {
      if (!this.#child)
        throw new MwarpError("MWARP_E_RUNTIME", "the helper ended in the middle of a request");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const taken = this.#buffer.subarray(0, bytes);
    this.#buffer = this.#buffer.subarray(bytes);
    return taken;
  }
}

/** Bytes that can be taken in pieces of a wanted size. */
export interface ByteSource {
  /** At least one and at most `limit` bytes. */
  take(limit: number): Promise<Uint8Array>;
}

function encodeRuns(runs: readonly PageRun[]): Buffer {
  const body = Buffer.alloc(runs.length * 16);
  for (const [i, run] of runs.entries()) {
    body.writeBigUInt64LE(BigInt(run.page) * BigInt(PAGE_BYTES), i * 16);
    body.writeBigUInt64LE(BigInt(run.pages), i * 16 + 8);
  }
  return body;
}

function decodeSpans(bytes: Buffer): PageSpan[] {
  const spans: PageSpan[] = [];
  for (let at = 0; at + 16 <= bytes.length; at += 16) {
    const page = Number(bytes.readBigUInt64LE(at) / BigInt(PAGE_BYTES));
    spans.push({ page, pages: Number(bytes.readBigUInt64LE(at + 8)) });
  }
  return spans;
}

/** struct connection (native/guest/guest.h). */
function encodeConnection({ address, port, peer, peerPort, nextFromPeer }: Connection): Buffer {
  const body = Buffer.alloc(44);
  body.writeUInt32LE(address.length === 4 ? 4 : 6, 0);
  body.set(address, 4);
  body.set(peer, 20);
  body.writeUInt16LE(port, 36);
  body.writeUInt16LE(peerPort, 38);
  body.writeUInt32LE(nextFromPeer, 40);
  return body;
}

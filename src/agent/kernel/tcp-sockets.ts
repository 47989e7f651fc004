/**
 * What the kernel knows of the TCP connections of a network namespace that no descriptor leads to. No interface shows their sequence
 * numbers or what they hold. The namespace's tasks are frozen and nothing reaches it, so its connections stay as they are;
 * those of others, which lie in the same hash table, come and go.
 */
import { MwarpError } from "../../errors.js";
import type { LooseConnection } from "../../protocol/loose-connection.js";
import { TcpState, unmapped } from "../proc-net.js";
import type { KernelFacts } from "./facts.js";
import { Kcore } from "./kcore.js";
import { KernelObject } from "./object.js";
import { taskRoots } from "./roots.js";
import { type Segment, SocketBuffers } from "./socket-buffers.js";
import type { TcpLayout } from "./tcp-layout.js";

/** A handshake under way (TCP_NEW_SYN_RECV), which /proc lists as one in SYN_RECV. */
const OPENING = 12;
/** A path takes that much by either family, and the kernel admits no less (bpf_sk_assign_tcp_reqsk). */
const LEAST_MSS = { 4: 536, 16: 1220 };
const CLOSED: ReadonlySet<number> = new Set([TcpState.finWait1, TcpState.lastAck, TcpState.closing]);
const AF_INET = 2;
const RECEIVE_SHUTDOWN = 1;
/** Longer chains are none. */
const MAX_CHAIN = 100_000;
const ATTEMPTS = 8;
/** Added to the mark at the end of a chain of listeners (LISTENING_NULLS_BASE). */
const LISTENING = 2 ** 29;

export interface LooseSocket {
  readonly connection: LooseConnection;
  /** Why it cannot be made elsewhere; null for one that can. */
  readonly fault: string | null;
  readonly received: Buffer;
  readonly outgoing: Buffer;
}

type Ends = Pick<LooseConnection, "address" | "port" | "peer" | "peerPort">;
type Options = Pick<LooseConnection, "scales" | "sack" | "timestamps">;

/** Those of a task's network namespace. @throws MWARP_E_UNSUPPORTED, MWARP_E_INTERNAL when they change meanwhile */
export function readLoose(facts: KernelFacts, layout: TcpLayout, pid: number): LooseSocket[] {
  const place = taskRoots(facts, [pid]).get(pid);
  if (place === undefined) throw new MwarpError("MWARP_E_INTERNAL", `no task ${pid}`);
  const kcore = new Kcore();
  try {
    return new TcpSockets(kcore, facts, layout, BigInt(place.taskAddress)).all();
  } finally {
    kcore.close();
  }
}

const NOTHING = Buffer.alloc(0);
const NO_BYTES = { received: 0, ended: false, outgoing: 0, unsent: 0 };

/** What neither a listener's queue nor the kernel's repair mode takes in another kernel. */
function faultOf({ kind, address, mss }: LooseConnection, isMicroseconds: boolean): string | null {
  if (isMicroseconds) return "its timestamps count microseconds";
  const least = LEAST_MSS[address.length === 4 ? 4 : 16];
  return kind !== "closed" && mss < least ? `it takes segments of no more than ${mss} bytes` : null;
}

class TcpSockets {
  readonly #buffers: SocketBuffers;
  readonly #net: bigint;
  readonly #hashinfo: bigint;
  /** Milliseconds of the clock that timestamps are taken from (tcp_clock_ns: CLOCK_MONOTONIC). */
  readonly #now = process.hrtime.bigint() / 1_000_000n;

  /** @param taskAddress a task of the namespace: kernel virtual address of its task_struct */
  constructor(
    private readonly kcore: Kcore,
    facts: KernelFacts,
    private readonly layout: TcpLayout,
    taskAddress: bigint,
  ) {
    this.#buffers = new SocketBuffers(kcore, facts, layout);
    const nsproxy = kcore.readWord(taskAddress + BigInt(layout.taskNsproxy));
    this.#net = kcore.readWord(nsproxy + BigInt(layout.nsproxyNet));
    this.#hashinfo = kcore.readWord(this.#net + BigInt(layout.netHashinfo));
  }

  /** Those that wait to be accepted, in their order for each listener; then those being opened, then those closed. */
  all(): LooseSocket[] {
    const { skc_state } = this.layout.common;
    const listeners = this.#listeners().filter((common) => common.u8(skc_state) === TcpState.listen);
    const waiting = listeners.flatMap(({ at }) => this.#accepted(at));
    const others = this.#established();
    const opening = others.filter((common) => common.u8(skc_state) === OPENING);
    const unheld = (isMeant: (state: number) => boolean): KernelObject[] =>
      others
        .filter((common) => isMeant(common.u8(skc_state)))
        .map(({ at }) => this.#socket(at))
        .filter((socket) => socket.word(this.layout.sock.sk_socket) === 0n);
    return [
      ...waiting.map((socket) => this.#waiting(socket)),
      ...opening.map(({ at }) => this.#opening(at)),
      ...unheld((state) => CLOSED.has(state)).map((socket) => this.#closed(socket)),
      ...unheld((state) => state === TcpState.synRecv).map((socket) => ({
        ...this.#waiting(socket),
        fault: "it has sent with its first segment (TCP Fast Open)",
      })),
    ];
  }

  #listeners(): KernelObject[] {
    const { bytes, head } = this.layout.listenBucket;
    return this.#table("lhash2", "lhash2_mask", bytes, head);
  }

  #established(): KernelObject[] {
    return this.#table("ehash", "ehash_mask", 8, 0);
  }

  #socket(at: bigint): KernelObject {
    return new KernelObject(this.kcore, at, this.layout.sizes.tcp);
  }

  /** Sockets of the namespace in a hash table. Most of its chains are empty. */
  #table(
    table: "ehash" | "lhash2",
    mask: "ehash_mask" | "lhash2_mask",
    bytes: number,
    head: number,
  ): KernelObject[] {
    const { hashinfo } = this.layout;
    const buckets = this.kcore.read(this.#hashinfo + BigInt(hashinfo[mask]), 4).readUInt32LE(0) + 1;
    const start = this.kcore.readWord(this.#hashinfo + BigInt(hashinfo[table]));
    const data = this.kcore.read(start, buckets * bytes);
    const found: KernelObject[] = [];
    for (let bucket = 0; bucket < buckets; bucket++) {
      const at = bucket * bytes + head;
      if ((data.readUInt8(at) & 1) === 0) found.push(...this.#chain(data.readBigUInt64LE(at), bucket));
    }
    return found;
  }

  /**
   * A chain ends with a mark that names the bucket (include/linux/list_nulls.h): who was led astray by a socket that went elsewhere
   * meanwhile ends at another one, and begins anew.
   */
  #chain(first: bigint, bucket: number): KernelObject[] {
    const { sizes, common } = this.layout;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const found: KernelObject[] = [];
      let link = first;
      try {
        for (let count = 0; (link & 1n) === 0n && count < MAX_CHAIN; count++) {
          const socket = new KernelObject(this.kcore, link - BigInt(common.skc_nulls_node), sizes.common);
          if (socket.word(common.skc_net) === this.#net) found.push(socket);
          link = socket.word(common.skc_nulls_node);
        }
        if ((link & 1n) === 1n && Number(link >> 1n) % LISTENING === bucket) return found;
      } catch (error) {
        if (attempt === ATTEMPTS - 1) throw error;
      }
    }
    throw new MwarpError("MWARP_E_INTERNAL", "the kernel's table of connections changes too fast to be read");
  }

  /** The queue of a listener: requests, each with the connection that came of it. */
  #accepted(listener: bigint): KernelObject[] {
    const { acceptHead, request, sizes, common } = this.layout;
    const found: KernelObject[] = [];
    for (
      let at = this.kcore.readWord(listener + BigInt(acceptHead));
      at !== 0n && found.length < MAX_CHAIN;
    ) {
      const entry = new KernelObject(this.kcore, at, sizes.request);
      const socket = this.#socket(entry.word(request.sk));
      // One that its peer has reset is still in the queue, and tells whoever accepts it no more than that.
      const state = socket.u8(common.skc_state);
      if (state === TcpState.established || state === TcpState.closeWait) found.push(socket);
      at = entry.word(request.dl_next);
    }
    return found;
  }

  #opening(at: bigint): LooseSocket {
    const { request, tcpRequest, requestFamily, requestOptions, requestAnswered, microseconds, sizes } =
      this.layout;
    const entry = new KernelObject(this.kcore, at, sizes.request);
    const family = this.kcore.read(entry.word(request.rsk_ops) + BigInt(requestFamily), 4).readUInt32LE(0);
    const fromPeer = (entry.u32(tcpRequest.rcv_isn) + 1) >>> 0;
    const stamps = { offset: entry.u32(tcpRequest.ts_off), peers: entry.u32(request.ts_recent) };
    const mss = entry.u16(request.mss);
    const connection: LooseConnection = {
      kind: entry.bits(requestAnswered) === 0 ? "opening" : "answered",
      ...this.#ends(entry, family === AF_INET),
      fromPeer,
      toPeer: (entry.u32(tcpRequest.snt_isn) + 1) >>> 0,
      mss,
      ...this.#options(entry, 0, requestOptions, stamps),
      // The peer said more, but a request does not keep it; its next segment says it again.
      window: { send: mss, most: mss, updated: fromPeer, receive: 0, told: fromPeer },
      ...NO_BYTES,
    };
    const isMicroseconds = microseconds !== null && entry.u8(microseconds.request) !== 0;
    return { connection, fault: faultOf(connection, isMicroseconds), received: NOTHING, outgoing: NOTHING };
  }

  #waiting(socket: KernelObject): LooseSocket {
    const { tcp, sock } = this.layout;
    const ended = (socket.u8(sock.sk_shutdown) & RECEIVE_SHUTDOWN) !== 0;
    const first = socket.u32(tcp.copied_seq);
    const last = (socket.u32(tcp.rcv_nxt) - (ended ? 1 : 0)) >>> 0;
    const received = between(this.#buffers.queue(socket.place(sock.sk_receive_queue)), first, last);
    const connection: LooseConnection = {
      kind: "waiting",
      ...this.#common(socket),
      ...NO_BYTES,
      fromPeer: first,
      received: received.length,
      ended,
    };
    return { connection, fault: this.#fault(connection, socket), received, outgoing: NOTHING };
  }

  /** What was written and is not confirmed: sent, in a tree, and not sent, in a queue. The last is followed by the FIN. */
  #closed(socket: KernelObject): LooseSocket {
    const { tcp, sock } = this.layout;
    const last = (socket.u32(tcp.write_seq) - 1) >>> 0;
    const segments = [
      ...this.#buffers.tree(socket.place(sock.tcp_rtx_queue)),
      ...this.#buffers.queue(socket.place(sock.sk_write_queue)),
    ];
    const outgoing = between(segments, socket.u32(tcp.snd_una), last);
    const connection: LooseConnection = {
      kind: "closed",
      ...this.#common(socket),
      ...NO_BYTES,
      fromPeer: socket.u32(tcp.rcv_nxt),
      outgoing: outgoing.length,
      unsent: Math.max(0, distance(socket.u32(tcp.snd_nxt), last)),
    };
    return { connection, fault: this.#fault(connection, socket), received: NOTHING, outgoing };
  }

  #fault(connection: LooseConnection, socket: KernelObject): string | null {
    const { microseconds } = this.layout;
    return faultOf(connection, microseconds !== null && socket.bits(microseconds.tcp) !== 0);
  }

  #common(socket: KernelObject): Ends & Options & Pick<LooseConnection, "toPeer" | "mss" | "window"> {
    const { tcp, received, receivedOptions } = this.layout;
    const word = (name: keyof typeof tcp): number => socket.u32(tcp[name]);
    const stamps = { offset: word("tsoffset"), peers: socket.u32(tcp.rx_opt + received.ts_recent) };
    return {
      ...this.#ends(socket, false),
      toPeer: word("snd_una"),
      mss: socket.u16(tcp.rx_opt + received.mss_clamp),
      ...this.#options(socket, tcp.rx_opt, receivedOptions, stamps),
      window: {
        send: word("snd_wnd"),
        most: word("max_window"),
        updated: word("snd_wl1"),
        receive: word("rcv_wnd"),
        told: word("rcv_wup"),
      },
    };
  }

  #ends(socket: KernelObject, isIpv4: boolean): Ends {
    const { common } = this.layout;
    const short = isIpv4 || socket.u16(common.skc_family) === AF_INET;
    const address = short
      ? socket.bytes(common.skc_rcv_saddr, 4)
      : unmapped(socket.bytes(common.skc_v6_rcv_saddr, 16));
    const peer = short ? socket.bytes(common.skc_daddr, 4) : unmapped(socket.bytes(common.skc_v6_daddr, 16));
    return { address, port: socket.u16(common.skc_num), peer, peerPort: socket.port(common.skc_dport) };
  }

  /** @param from where the options begin in the object */
  #options(
    object: KernelObject,
    from: number,
    places: TcpLayout["receivedOptions"],
    { offset, peers }: { offset: number; peers: number },
  ): Options {
    const bits = (name: keyof typeof places): number => object.bits(places[name], from);
    const ours = Number((this.#now + BigInt(offset)) & 0xffff_ffffn);
    return {
      scales: bits("wscale_ok") === 0 ? null : { send: bits("snd_wscale"), receive: bits("rcv_wscale") },
      sack: bits("sack_ok") !== 0,
      timestamps: bits("tstamp_ok") === 0 ? null : { ours, peers },
    };
  }
}

/** From one sequence number to another; they wrap around. */
const distance = (from: number, to: number): number => (to - from) | 0;

/**
 * The bytes from sequence number `first` to before `last`. Segments may begin before `first`, as some of it was read or confirmed.
 * @throws MWARP_E_UNSUPPORTED when they are not all there
 */
export function between(segments: readonly Segment[], first: number, last: number): Buffer {
  const wanted = distance(first, last);
  const parts: Buffer[] = [];
  let have = 0;
  for (const { sequence, bytes } of segments) {
    const skip = have - distance(first, sequence);
    if (bytes.length === 0 || skip >= bytes.length) continue;
    if (skip < 0) break;
    parts.push(bytes.subarray(skip));
    have += bytes.length - skip;
  }
  if (have === wanted) return Buffer.concat(parts);
  throw new MwarpError("MWARP_E_UNSUPPORTED", `a socket's queue has ${have} bytes in a row, not ${wanted}`);
}

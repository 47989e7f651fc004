/** The bytes in a socket's queues, read where the kernel has them. Nobody may change the queue meanwhile. */
import { MwarpError } from "../../errors.js";
import { PAGE_BYTES } from "../../units.js";
import type { KernelFacts } from "./facts.js";
import type { Kcore } from "./kcore.js";
import { KernelObject } from "./object.js";
import type { TcpLayout } from "./tcp-layout.js";

/** More buffers than a queue has: a list that goes on is no list. */
const MAX_BUFFERS = 100_000;
/** Buffers of buffers end at once: only a queue's own may have a list. */
const MAX_DEPTH = 3;

/** What a queue has of one segment. */
export interface Segment {
  readonly sequence: number;
  readonly bytes: Buffer;
}

const odd = (what: string): MwarpError => new MwarpError("MWARP_E_UNSUPPORTED", `a socket's queue: ${what}`);

export class SocketBuffers {
  constructor(
    private readonly kcore: Kcore,
    private readonly facts: KernelFacts,
    private readonly layout: TcpLayout,
  ) {}

  /** Of a `struct sk_buff_head`, a ring with the head in it. */
  queue(head: bigint): Segment[] {
    const segments: Segment[] = [];
    for (let at = this.kcore.readWord(head); at !== head; ) {
      if (segments.length === MAX_BUFFERS) throw odd("it has no end");
      const buffer = this.#buffer(at);
      segments.push(this.#segment(buffer));
      at = buffer.word(this.layout.buffer.next);
    }
    return segments;
  }

  /** Of a `struct rb_root`, in the tree's order. */
  tree(root: bigint): Segment[] {
    const { node, buffer } = this.layout;
    const segments: Segment[] = [];
    const above: KernelObject[] = [];
    for (let at = this.kcore.readWord(root); at !== 0n || above.length > 0; ) {
      if (above.length + segments.length > MAX_BUFFERS) throw odd("it has no end");
      if (at !== 0n) {
        const next = this.#buffer(at - BigInt(buffer.rbnode));
        above.push(next);
        at = next.word(buffer.rbnode + node.rb_left);
        continue;
      }
      const next = above.pop() as KernelObject;
      segments.push(this.#segment(next));
      at = next.word(buffer.rbnode + node.rb_right);
    }
    return segments;
  }

  #buffer(at: bigint): KernelObject {
    return new KernelObject(this.kcore, at, this.layout.sizes.buffer);
  }

  #segment(buffer: KernelObject): Segment {
    const { cb } = this.layout.buffer;
    return {
      sequence: buffer.u32(cb + this.layout.control.seq),
      bytes: Buffer.concat(this.#bytes(buffer, 0)),
    };
  }

  /** A buffer is linear bytes, then parts of pages, then buffers of its own (include/linux/skbuff.h). */
  #bytes(buffer: KernelObject, depth: number): Buffer[] {
    const { len, data_len, data, head, end, next } = this.layout.buffer;
    const { shared, fragment, sizes } = this.layout;
    const [bytes, beyond] = [buffer.u32(len), buffer.u32(data_len)];
    if (beyond > bytes || depth > MAX_DEPTH) throw odd("its lengths make no sense");
    const parts: Buffer[] = [];
    if (bytes > beyond) parts.push(this.kcore.read(buffer.word(data), bytes - beyond));
    if (beyond > 0) {
      // `end` is an offset from `head` on 64-bit kernels.
      const at = buffer.word(head) + BigInt(buffer.u32(end));
      const info = new KernelObject(this.kcore, at, sizes.shared);
      for (let i = 0; i < info.u8(shared.nr_frags); i++)
        parts.push(this.#fragment(info, shared.frags + i * fragment.bytes));
      for (let inner = info.word(shared.frag_list); inner !== 0n; ) {
        if (parts.length > MAX_BUFFERS) throw odd("it has no end");
        const part = this.#buffer(inner);
        parts.push(...this.#bytes(part, depth + 1));
        inner = part.word(next);
      }
    }
    if (parts.reduce((sum, part) => sum + part.length, 0) !== bytes) throw odd("its parts are not the whole");
    return parts;
  }

  #fragment(info: KernelObject, at: number): Buffer {
    const { page, offset, len } = this.layout.fragment;
    const address = info.word(at + page);
    // Memory of a device has no struct page (include/net/netmem.h, NET_IOV).
    if ((address & 1n) !== 0n) throw odd("a part of it is not in memory");
    const frame = (address - BigInt(this.facts.vmemmapBase)) / BigInt(this.facts.page.bytes);
    const start = BigInt(this.facts.directMapBase) + frame * BigInt(PAGE_BYTES);
    return this.kcore.read(start + BigInt(info.u32(at + offset)), info.u32(at + len));
  }
}

/** The preloaded library against whatever may come out of its socket: the VMM lives, and its memory is where it was. */
import { connect } from "node:net";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BackingReader, backingPiece, fileKey } from "../../../src/vm/backing.js";
import { isAlive } from "../../../src/vm/process.js";
import type { MemoryLayout } from "../../../src/vm/types.js";
import { VmmLibrary } from "../../../src/vm/vmm-library.js";
import { PausedQemu } from "./paused-qemu.js";

const MAGIC = 0x5657574d;
const VERSION = 1;
const MAP = 5;
const OPEN = 2;

function message(type: number, count: number, body: Uint8Array, bodyBytes = body.length): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt16LE(VERSION, 4);
  header.writeUInt16LE(type, 6);
  header.writeUInt32LE(1, 8);
  header.writeUInt32LE(count, 16);
  header.writeUInt32LE(bodyBytes >>> 0, 20);
  return Buffer.concat([header, body]);
}

describe("the library in a VMM", () => {
  let qemu: PausedQemu;
  let layout: MemoryLayout;
  let before: string;

  const mappings = (): string => {
    const backing = new BackingReader(qemu.endpoint.pid, layout).read();
    return Array.from({ length: backing.count }, (_, index) => {
      const { hva, bytes, offset, file } = backingPiece(backing, index);
      return `${hva}+${bytes}@${offset} ${fileKey(file)}`;
    }).join("\n");
  };

  beforeAll(async () => {
    qemu = await PausedQemu.start();
    layout = await qemu.layout();
    using library = await VmmLibrary.connect(qemu.endpoint.vmmSocket!);
    for (const region of layout.regions) await library.region(region.hva, region.bytes);
    before = mappings();
  });
  afterAll(() => qemu[Symbol.asyncDispose]());

  /** Sends bytes on a connection of their own and waits until the library has dropped it, or has answered and been left. */
  async function send(bytes: Uint8Array): Promise<void> {
    const socket = connect(qemu.endpoint.vmmSocket!);
    // A reset is an answer, too: the library drops a client whose words make no sense with the rest of them unread.
    socket.on("error", () => undefined);
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.resume();
    socket.end(bytes);
    await closed;
  }

  const word = fc.oneof(fc.constantFrom(0, 1, 4096, 2 ** 31, 2 ** 32 - 1), fc.nat(2 ** 32 - 1));
  const handle = fc.oneof(fc.constantFrom(0, 1, 255, 256, 2 ** 32 - 1), word);
  const address = fc.oneof(
    fc.nat(2 ** 20).map((page) => Number(layout.regions[0].hva) + page * 4096),
    fc.maxSafeInteger().map(Math.abs),
  );
  const extent = fc.record({
    hva: address,
    bytes: word,
    offset: word,
    oldOffset: word,
    handle,
    oldHandle: handle,
  });
  const extents = fc.array(extent, { maxLength: 20 }).map((list) => {
    const body = Buffer.alloc(list.length * 40);
    for (const [index, one] of list.entries()) {
      const at = index * 40;
      body.writeBigUInt64LE(BigInt(one.hva), at);
      body.writeBigUInt64LE(BigInt(one.bytes), at + 8);
      body.writeBigUInt64LE(BigInt(one.offset), at + 16);
      body.writeBigUInt64LE(BigInt(one.oldOffset), at + 24);
      body.writeUInt32LE(one.handle, at + 32);
      body.writeUInt32LE(one.oldHandle, at + 36);
    }
    return message(MAP, list.length, body);
  });
  const paths = fc
    .constantFrom(
      "/etc/passwd",
      "/dev/zero",
      "/proc/self/mem",
      "/",
      "",
      "/nowhere",
      "x".repeat(255),
      "x".repeat(300),
    )
    .map((file) => message(OPEN, 0, Buffer.from(file)));
  const lies = fc
    .tuple(fc.nat(8), word, fc.uint8Array({ maxLength: 200 }), word)
    .map(([type, count, body, bytes]) => message(type, count, body, bytes));
  const noise = fc.uint8Array({ maxLength: 400 });

  it("drops what is no message, refuses what it may not do, and serves the next client", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(extents, paths, lies, noise), { maxLength: 4 }), async (parts) => {
        await send(Buffer.concat(parts));
      }),
      { numRuns: 300 },
    );
    expect(isAlive(qemu.endpoint)).toBe(true);
    using library = await VmmLibrary.connect(qemu.endpoint.vmmSocket!);
    expect(library.pid).toBe(qemu.endpoint.pid);
    expect(mappings()).toBe(before);
  }, 60_000);
});

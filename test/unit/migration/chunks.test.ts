import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ChunkCollector, inChunks } from "../../../src/migration/chunks.js";
import { CHUNK_BYTES } from "../../../src/protocol/agent.js";

describe("a collector of chunks", () => {
  it("gives back what came, in order, and goes in chunks that the channel takes", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 3000 })), async (parts) => {
        const collector = new ChunkCollector(200_000);
        for (const part of parts) collector.onChunk(part);
        const all = Buffer.concat(parts);
        expect(collector.bytes).toBe(all.length);
        expect(Buffer.from(collector.take()).equals(all)).toBe(true);
        const sent: Uint8Array[] = [];
        for await (const chunk of inChunks([collector.take()])) sent.push(chunk);
        expect(sent.every((chunk) => chunk.length <= CHUNK_BYTES)).toBe(true);
        expect(Buffer.concat(sent).equals(all)).toBe(true);
      }),
    );
  });

  it("takes no byte more than its limit", () => {
    const collector = new ChunkCollector(10);
    collector.onChunk(new Uint8Array(10));
    expect(() => collector.onChunk(new Uint8Array(1))).toThrow(/more than the 10 bytes/);
    expect(collector.bytes).toBe(10);
  });

  it("takes about as much memory as there are bytes, also of an agent that sends them one by one", () => {
    const bytes = 2_000_000;
    const collector = new ChunkCollector(bytes);
    const one = new Uint8Array(1);
    const before = process.memoryUsage();
    for (let i = 0; i < bytes; i++) collector.onChunk(one);
    const after = process.memoryUsage();
    const taken = after.heapUsed - before.heapUsed + after.arrayBuffers - before.arrayBuffers;
    expect(taken).toBeLessThan(20 * bytes);
  });
});

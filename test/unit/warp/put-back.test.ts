import { describe, expect, it } from "vitest";
import type { ExchangePieces } from "../../../src/warp/backends/exchange-pieces.js";
import { decodeExchange, encodeExchange } from "../../../src/warp/backends/exchange-record.js";
import { openFiles, putBack } from "../../../src/warp/backends/put-back.js";
import { RemapBackend } from "../../../src/warp/backends/remap.js";
import { extentsOf, MemoryHolder, remapSide, useHolders } from "./memory-holder.js";

useHolders();

const FRAMES = 64;
/** Exchanges the first FRAMES frames; gives the record that was written before. */
async function exchange(a: MemoryHolder, b: MemoryHolder): Promise<Uint8Array> {
  let record: Uint8Array | null = null;
  const onBegin = (pieces: ExchangePieces): void => {
    record = encodeExchange(pieces);
  };
  const done = await new RemapBackend(remapSide(a), remapSide(b), onBegin).exchange(
    extentsOf([[0, 0, FRAMES]]),
  );
  await done.release();
  return record!;
}

describe("an exchange whose daemon died", () => {
  it("is put back on both sides, also where the old frames are those of a VM that has ended", async () => {
    await using source = await MemoryHolder.start(1);
    await using destination = await MemoryHolder.start(2);
    const ended = await MemoryHolder.start(3);
    await exchange(destination, ended);
    const record = decodeExchange(await exchange(source, destination));
    // What was the ended VM's is now mapped by the source alone, and must come back to the destination.
    await ended[Symbol.asyncDispose]();
    const sides = [remapSide(source), remapSide(destination)] as const;
    const files = sides.flatMap(({ backing }) => backing.read().files);
    const handles = [await openFiles(sides[0].library, files), await openFiles(sides[1].library, files)];
    expect(await putBack(record, record.source, sides[0], handles[0])).toBeGreaterThan(0);
    expect(await putBack(record, record.destination, sides[1], handles[1])).toBeGreaterThan(0);
    for (let frame = 0; frame < FRAMES; frame++) {
      expect(source.word(frame)).toBe(`1:${frame}`);
      expect(destination.word(frame)).toBe(`3:${frame}`);
    }
    // Once more: there is nothing left to do.
    expect(await putBack(record, record.source, sides[0], handles[0])).toBe(0);
    expect(await putBack(record, record.destination, sides[1], handles[1])).toBe(0);
  });
});

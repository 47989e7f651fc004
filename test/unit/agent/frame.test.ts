import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAX_FRAME_BYTES } from "../../../src/protocol/agent.js";
import {
  encodeFrame,
  encodeMarker,
  FrameKind,
  FrameReader,
  type ReaderItem,
  SYNC,
  SYNC_ACK,
} from "../../../src/protocol/frame.js";
import { runs } from "../../support/long.js";

const nonce = (fill: number) => new Uint8Array(16).fill(fill);

interface Sent {
  readonly kind: FrameKind;
  readonly id: number;
  readonly json: unknown;
  readonly payload: Uint8Array;
}
const frames = fc.array(
  fc.record({
    kind: fc.constantFrom(...Object.values(FrameKind)),
    id: fc.integer({ min: 0, max: 0xffffffff }),
    json: fc.jsonValue().map((value) => JSON.parse(JSON.stringify(value)) as unknown),
    payload: fc.uint8Array({ maxLength: 3000 }),
  }),
  { maxLength: 6 },
);
const encodeAll = (list: readonly Sent[]) =>
  Buffer.concat(list.map((f) => encodeFrame(f.kind, f.id, f.json, f.payload)));

function pushSplit(reader: FrameReader, bytes: Uint8Array, cuts: readonly number[]): ReaderItem[] {
  const items: ReaderItem[] = [];
  const points = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let at = 0;
  for (const point of [...points, bytes.length]) {
    items.push(...reader.push(bytes.subarray(at, point)));
    at = point;
  }
  return items;
}
const framesOf = (items: readonly ReaderItem[]) =>
  items.flatMap((item) => (item.type === "frame" ? [item.frame] : []));
const plain = (list: readonly Sent[]) => list.map((f) => ({ ...f, payload: [...f.payload] }));

describe("FrameReader", () => {
  it("gives back every frame however the stream is cut, with garbage before the marker", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        frames,
        fc.array(fc.nat(20000)),
        (garbage, list, cuts) => {
          const reader = new FrameReader(SYNC);
          const bytes = Buffer.concat([garbage, encodeMarker(SYNC, nonce(7)), encodeAll(list)]);
          const items = pushSplit(reader, bytes, cuts);
          expect(items[0]).toEqual({ type: "sync", nonce: nonce(7) });
          expect(plain(framesOf(items))).toEqual(plain(list));
        },
      ),
      { numRuns: runs(100) },
    );
  });

  it("drops the half frame of a peer that vanished when a new marker comes", () => {
    fc.assert(
      fc.property(
        frames,
        frames,
        fc.nat(),
        fc.nat(15),
        fc.array(fc.nat(20000)),
        (first, second, cut, id, cuts) => {
          const half = encodeFrame(FrameKind.chunk, id, { fd: 1 }, new Uint8Array(1000).fill(0xee));
          const kept = half.subarray(0, cut % (half.length - 40));
          const bytes = Buffer.concat([
            encodeMarker(SYNC, nonce(1)),
            encodeAll(first),
            kept,
            encodeMarker(SYNC, nonce(2)),
            encodeAll(second),
          ]);
          const items = pushSplit(new FrameReader(SYNC), bytes, cuts);
          expect(items.filter((item) => item.type === "sync").map((item) => item.nonce[0])).toEqual([1, 2]);
          expect(plain(framesOf(items))).toEqual(plain([...first, ...second]));
        },
      ),
      { numRuns: runs(100) },
    );
  });

  it("yields nothing before the first marker, even when frames go by", () => {
    const reader = new FrameReader(SYNC_ACK);
    expect(reader.push(encodeFrame(FrameKind.event, 0, { event: "x" }))).toEqual([]);
    expect(reader.push(encodeMarker(SYNC, nonce(3)))).toEqual([]);
    expect(reader.push(encodeMarker(SYNC_ACK, nonce(4)))).toEqual([{ type: "sync", nonce: nonce(4) }]);
  });

  it("hunts for the next marker after an impossible length", () => {
    const reader = new FrameReader(SYNC);
    reader.push(encodeMarker(SYNC, nonce(1)));
    const bad = Buffer.alloc(64);
    bad.writeUInt32LE(MAX_FRAME_BYTES + 1, 0);
    expect(reader.push(bad)).toEqual([]);
    expect(reader.synced).toBe(false);
    expect(reader.push(encodeFrame(FrameKind.request, 1, {}))).toEqual([]);
    const again = reader.push(
      Buffer.concat([encodeMarker(SYNC, nonce(2)), encodeFrame(FrameKind.request, 1, {})]),
    );
    expect(again).toHaveLength(2);
  });

  it("hunts after a frame whose kind, JSON length or JSON is wrong", () => {
    for (const spoil of [
      (frame: Buffer) => frame.writeUInt8(99, 4),
      (frame: Buffer) => frame.writeUInt32LE(5000, 9),
      (frame: Buffer) => frame.write("}", 13),
    ]) {
      const reader = new FrameReader(SYNC);
      reader.push(encodeMarker(SYNC, nonce(1)));
      const frame = Buffer.from(encodeFrame(FrameKind.request, 1, { a: 1 }));
      spoil(frame);
      expect(reader.push(frame)).toEqual([]);
      expect(reader.synced).toBe(false);
    }
  });

  it("carries the largest frame and refuses to encode a larger one", () => {
    const reader = new FrameReader(SYNC);
    reader.push(encodeMarker(SYNC, nonce(1)));
    const largest = encodeFrame(FrameKind.chunk, 1, {}, new Uint8Array(MAX_FRAME_BYTES - 11));
    const items = [0, 1, 2, 3, 4].flatMap((i) => reader.push(largest.subarray(i * 1e6, (i + 1) * 1e6)));
    expect(framesOf(items)[0]?.payload.length).toBe(MAX_FRAME_BYTES - 11);
    expect(() => encodeFrame(FrameKind.chunk, 1, {}, new Uint8Array(MAX_FRAME_BYTES - 10))).toThrow(/limit/);
  });

  it("does not keep what it has passed on", () => {
    const reader = new FrameReader(SYNC);
    reader.push(encodeMarker(SYNC, nonce(1)));
    const first = framesOf(
      reader.push(encodeFrame(FrameKind.chunk, 1, {}, new Uint8Array(60000).fill(1))),
    )[0];
    for (let i = 0; i < 10; i++)
      reader.push(encodeFrame(FrameKind.chunk, 1, {}, new Uint8Array(60000).fill(2)));
    expect(first?.payload.every((byte) => byte === 1)).toBe(true);
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CHUNK_OVERHEAD_BYTES, STREAM_WINDOW_BYTES } from "../../../src/protocol/agent.js";
import { chunkCost, ReceiveWindow, SendWindow } from "../../../src/protocol/window.js";

/** The largest chunk that one window takes. */
const WHOLE = STREAM_WINDOW_BYTES - CHUNK_OVERHEAD_BYTES;

describe("SendWindow", () => {
  it("lets one window go and holds the rest until the receiver grants more, in order", async () => {
    const window = new SendWindow();
    const order: string[] = [];
    await window.take(WHOLE);
    const large = window.take(100).then(() => order.push("large"));
    const small = window.take(1).then(() => order.push("small"));
    window.grant(chunkCost(100) - 1);
    await Promise.resolve();
    expect(order).toEqual([]);
    window.grant(1 + chunkCost(1));
    await Promise.all([large, small]);
    expect(order).toEqual(["large", "small"]);
  });

  it("ends every wait, and each later one, when the stream fails", async () => {
    const window = new SendWindow();
    await window.take(WHOLE);
    const waiting = window.take(1);
    window.fail(new Error("gone"));
    await expect(waiting).rejects.toThrow("gone");
    await expect(window.take(1)).rejects.toThrow("gone");
  });

  it("never gets more than a window, whatever is granted", async () => {
    const window = new SendWindow();
    for (let time = 0; time < 3; time++) window.grant(Number.MAX_SAFE_INTEGER);
    await window.take(WHOLE);
    let more = false;
    const waiting = window.take(0).then(() => {
      more = true;
    });
    await Promise.resolve();
    expect(more).toBe(false);
    window.grant(chunkCost(0));
    await waiting;
  });
});

describe("ReceiveWindow", () => {
  it("has room for all that an honest sender sends, in whatever order chunks come and are consumed", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: 0, max: WHOLE }), fc.boolean()), { maxLength: 60 }),
        async (steps) => {
          const sender = new SendWindow();
          const receiver = new ReceiveWindow();
          const waiting: number[] = [];
          for (const [bytes, consumes] of steps) {
            const sent = sender.take(bytes).then(() => {
              expect(receiver.take(bytes)).toBe(true);
              waiting.push(bytes);
            });
            let done = false;
            sent.then(() => {
              done = true;
            });
            for (let turn = 0; turn < 3; turn++) await Promise.resolve();
            while (waiting.length > 0 && (!done || consumes)) {
              sender.grant(receiver.release(waiting.shift()!));
              for (let turn = 0; turn < 3; turn++) await Promise.resolve();
            }
            await sent;
          }
        },
      ),
    );
  });

  it("has none for one byte more than a window, nor for many chunks of nothing", () => {
    const one = new ReceiveWindow();
    expect(one.take(WHOLE)).toBe(true);
    expect(one.take(0)).toBe(false);
    const many = new ReceiveWindow();
    let chunks = 0;
    while (many.take(0)) chunks++;
    expect(chunks).toBe(STREAM_WINDOW_BYTES / CHUNK_OVERHEAD_BYTES);
  });
});

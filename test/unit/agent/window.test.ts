import { describe, expect, it } from "vitest";
import { STREAM_WINDOW_BYTES } from "../../../src/protocol/agent.js";
import { SendWindow } from "../../../src/protocol/window.js";

describe("SendWindow", () => {
  it("lets one window go and holds the rest until the receiver grants more, in order", async () => {
    const window = new SendWindow();
    const order: string[] = [];
    await window.take(STREAM_WINDOW_BYTES);
    const large = window.take(100).then(() => order.push("large"));
    const small = window.take(1).then(() => order.push("small"));
    window.grant(50);
    await Promise.resolve();
    expect(order).toEqual([]);
    window.grant(51);
    await Promise.all([large, small]);
    expect(order).toEqual(["large", "small"]);
  });

  it("ends every wait, and each later one, when the stream fails", async () => {
    const window = new SendWindow();
    await window.take(STREAM_WINDOW_BYTES);
    const waiting = window.take(1);
    window.fail(new Error("gone"));
    await expect(waiting).rejects.toThrow("gone");
    await expect(window.take(1)).rejects.toThrow("gone");
  });
});

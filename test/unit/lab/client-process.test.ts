import path from "node:path";
import { describe, expect, it } from "vitest";
import { ClientProcess } from "../../../src/lab/client-process.js";
import { projectRoot } from "../../support/mwarp.js";

const file = path.join(projectRoot, "test/support/answering-client.mjs");

function start(limitMs = 5_000, signal = new AbortController().signal): ClientProcess<string> {
  return new ClientProcess({
    what: "the client",
    file,
    args: ["one", "two"],
    prefix: ["nice"],
    limitMs,
    signal,
  });
}
const withCode = (code: string, message: RegExp) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) });

describe("a client process", () => {
  it("answers several requests at once, each with its progress", async () => {
    await using client = start();
    const seen: number[] = [];
    const slow = client.ask("slow");
    slow.catch(() => undefined);
    const answers = await Promise.all([client.ask("a", (done) => seen.push(done)), client.ask("b")]);
    expect(answers).toEqual(["a", "b"].map((got) => ({ got, args: ["one", "two"] })));
    expect(seen).toEqual([0.5]);
  });

  it("goes on after a request that failed", async () => {
    await using client = start();
    await expect(client.ask("fail")).rejects.toThrow(
      withCode("MWARP_E_INTERNAL", /client failed: no such thing/),
    );
    expect(await client.ask("a")).toMatchObject({ got: "a" });
  });

  it("is given up by the request that takes too long", async () => {
    await using client = start(300);
    await expect(client.ask("slow")).rejects.toThrow(withCode("MWARP_E_TIMEOUT", /did not answer in 0.3 s/));
  });

  it("fails every request, also later ones, with its last words when it dies", async () => {
    await using client = start();
    const slow = expect(client.ask("slow")).rejects.toThrow(withCode("MWARP_E_INTERNAL", /it hurts/));
    await expect(client.ask("die")).rejects.toThrow(withCode("MWARP_E_INTERNAL", /it hurts/));
    await slow;
    await expect(client.ask("a")).rejects.toThrow(withCode("MWARP_E_INTERNAL", /it hurts/));
  });

  it("is ended when it says what is no answer", async () => {
    await using client = start();
    await expect(client.ask("babble")).rejects.toThrow(withCode("MWARP_E_INTERNAL", /it said: no JSON/));
  });

  it("is killed when its signal aborts", async () => {
    const stop = new AbortController();
    await using client = start(5_000, stop.signal);
    const slow = client.ask("slow");
    stop.abort();
    await expect(slow).rejects.toThrow(withCode("MWARP_E_CANCELLED", /interrupted/));
    await expect(client.ask("a")).rejects.toThrow(withCode("MWARP_E_CANCELLED", /interrupted/));
  });

  it("that cannot be started says so", async () => {
    const { signal } = new AbortController();
    const lost = new ClientProcess({ what: "it", file, args: [], prefix: ["/none"], limitMs: 5_000, signal });
    await expect(lost.ask("a")).rejects.toThrow(withCode("MWARP_E_INTERNAL", /it ended: .*ENOENT/));
  });
});

/** What one agent can do to the daemon by way of its channel: nothing but lose it. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { connectAgent, type GuestAgent } from "../../../src/guest/index.js";
import { CHUNK_BYTES, CHUNK_OVERHEAD_BYTES, STREAM_WINDOW_BYTES } from "../../../src/protocol/agent.js";
import { type Frame, FrameKind } from "../../../src/protocol/frame.js";
import { heldBytes } from "../../support/held-bytes.js";
import { RawAgent } from "./fake-agent.js";

const migration = "m-12345678";
let dir: string;
let raw: RawAgent;
let agent: GuestAgent;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "mwarp-hostile-"));
  raw = new RawAgent(join(dir, "agent"));
  await raw.listen();
  agent = await connectAgent(raw.path);
});
afterEach(async () => {
  agent.close();
  await raw.close();
  await rm(dir, { recursive: true });
});

/** What the agent does once it is asked for anything. */
const when = (act: (id: number) => void): void => {
  raw.onFrame = (frame: Frame) => {
    if (frame.kind === FrameKind.request) act(frame.id);
  };
};

/** Sends chunks for as long as the connection takes them; answers with the bytes that went out. */
const flood = (chunk: Uint8Array, json: object): { sent: number } => {
  const count = { sent: 0 };
  when((id) => {
    const pour = (): void => {
      const { client } = raw;
      while (client && !client.destroyed && !client.writableNeedDrain) {
        raw.say(FrameKind.chunk, id, json, chunk);
        count.sent += chunk.length;
      }
      if (client && !client.destroyed) client.once("drain", pour);
    };
    pour();
  });
  return count;
};

const never = (): Promise<void> => new Promise(() => undefined);

describe("an agent that sends chunks without credit", () => {
  for (const [title, bytes] of [
    ["large ones", CHUNK_BYTES],
    ["tiny ones", 1],
    ["empty ones", 0],
  ] as const) {
    it(`loses its channel after one window of ${title}, and no more of them wait for their handler`, async () => {
      flood(new Uint8Array(bytes), {});
      let handled = 0;
      const call = agent.call(
        "source.layer",
        { migration, pass: "whole" },
        {
          onChunk: () => {
            handled++;
            return never();
          },
        },
      );
      await expect(call).rejects.toMatchObject({
        code: "MWARP_E_PROTOCOL",
        message: expect.stringContaining("sent more for source.layer than it may"),
      });
      expect(handled).toBe(1);
      expect(agent.closed).toMatchObject({ code: "MWARP_E_PROTOCOL" });
      // What was on its way in the sockets is read in pieces; of the frames not one more is taken than was granted.
      const frame = bytes + 4 + 9 + 2;
      const window = Math.ceil(STREAM_WINDOW_BYTES / (bytes + CHUNK_OVERHEAD_BYTES)) * frame;
      expect(agent.channelBytes.received).toBeLessThan(window + frame + 128 * 1024);
    });
  }

  it("takes every other request on the channel with it, and none on a new one", async () => {
    flood(new Uint8Array(CHUNK_BYTES), {});
    const calls = [
      agent.call("source.layer", { migration, pass: "whole" }, { onChunk: never }),
      agent.call("source.freeze", { migration }),
    ];
    for (const call of calls) await expect(call).rejects.toMatchObject({ code: "MWARP_E_PROTOCOL" });
    raw.onFrame = (frame) => raw.greet(frame);
    const again = await connectAgent(raw.path);
    expect(again.info.hostname).toBe("h");
    again.close();
  });
});

describe("an agent that answers more than once", () => {
  const answer = { parts: null, reason: "there are few of them" };
  it("is heard once: later answers and chunks are not kept while the first waits for its chunks", async () => {
    const large = { ...answer, filler: "x".repeat(1024 * 1024) };
    when((id) => {
      raw.say(FrameKind.chunk, id, {}, new Uint8Array(10));
      raw.say(FrameKind.response, id, answer);
      for (let time = 0; time < 40; time++) raw.say(FrameKind.response, id, large);
      for (let time = 0; time < 40; time++) raw.say(FrameKind.chunk, id, {}, new Uint8Array(CHUNK_BYTES));
      raw.say(FrameKind.event, 0, { event: "log", level: "info", message: "done" });
    });
    const done = new Promise<void>((resolve) => void agent.onEvent(() => resolve()));
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let handled = 0;
    const onChunk = (): Promise<void> => {
      handled++;
      return held;
    };
    const before = await heldBytes();
    const call = agent.call("source.layer", { migration, pass: "whole" }, { onChunk });
    await done;
    expect((await heldBytes()) - before).toBeLessThan(16 * 1024 * 1024);
    release();
    expect(await call).toEqual(answer);
    expect(handled).toBe(1);
  });
});

describe("an agent that reads nothing", () => {
  it("keeps no caller beyond its time limit, though it goes on talking, and loses its channel", async () => {
    raw.deaf = true;
    const chatter = setInterval(
      () => raw.say(FrameKind.event, 0, { event: "log", level: "info", message: "x" }),
      10,
    );
    const runs = Array.from({ length: 100_000 }, (_, page) => ({ nsPid: 1, page: 2 * page, pages: 1 }));
    try {
      const call = agent.call("destination.populate", { migration, runs }, { timeoutMs: 150 });
      await expect(call).rejects.toMatchObject({
        code: "MWARP_E_AGENT_UNREACHABLE",
        message: expect.stringContaining("has read nothing for 150 ms"),
      });
      expect(agent.closed).not.toBeNull();
    } finally {
      clearInterval(chatter);
    }
  });

  it("cannot keep a caller from cancelling", async () => {
    raw.deaf = true;
    const runs = Array.from({ length: 100_000 }, (_, page) => ({ nsPid: 1, page: 2 * page, pages: 1 }));
    const cancel = new AbortController();
    const call = agent.call("destination.populate", { migration, runs }, { signal: cancel.signal });
    await sleep(20);
    cancel.abort();
    await expect(call).rejects.toMatchObject({ code: "MWARP_E_CANCELLED" });
  });
});

describe("an agent whose words have no end", () => {
  const many = (item: unknown): unknown[] => Array.from({ length: 400_000 }, () => item);

  it("is not heard out: of all the wrong things in an answer one is told", async () => {
    when((id) => raw.say(FrameKind.response, id, { containers: many({}) }));
    const before = process.cpuUsage();
    await expect(agent.call("container.list", {})).rejects.toMatchObject({
      code: "MWARP_E_PROTOCOL",
      details: ["containers.0.spec: Invalid input"],
    });
    const { user, system } = process.cpuUsage(before);
    // Collecting them all takes ten seconds.
    expect((user + system) / 1e6).toBeLessThan(2);
  });

  it("cannot end the daemon with an error of that kind", async () => {
    when((id) => raw.say(FrameKind.error, id, { code: "MWARP_E_DUMP", message: "m", detail: many(0) }));
    await expect(agent.call("source.freeze", { migration })).rejects.toMatchObject({
      code: "MWARP_E_PROTOCOL",
    });
    expect(agent.closed).toBeNull();
  });

  it("is quoted with what a person can read", async () => {
    const message = "m".repeat(1024 * 1024);
    const detail = Array.from({ length: 300_000 }, (_, line) => `${line}`);
    when((id) => raw.say(FrameKind.error, id, { code: "MWARP_E_DUMP", message, detail }));
    const failure = await agent.call("source.freeze", { migration }).catch((error: unknown) => error);
    expect(failure).toMatchObject({
      code: "MWARP_E_DUMP",
      message: `${"m".repeat(2000)} ...`,
      details: [...detail.slice(0, 200), "... and 299800 more"],
    });
  });
});

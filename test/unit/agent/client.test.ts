import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Handlers } from "../../../src/agent/methods.js";
import { MwarpError } from "../../../src/errors.js";
import { AgentLink, connectAgent } from "../../../src/guest/index.js";
import { STREAM_WINDOW_BYTES } from "../../../src/protocol/agent.js";
import { FakeGuest, info } from "./fake-agent.js";

let dir: string;
let guests: FakeGuest[] = [];
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "mwarp-client-"));
});
afterEach(async () => {
  for (const guest of guests) await guest.close();
  guests = [];
  await rm(dir, { recursive: true });
});

async function guest(handlers: Partial<Handlers> = {}): Promise<FakeGuest> {
  const made = new FakeGuest(join(dir, "agent"), handlers);
  await made.listen();
  guests.push(made);
  return made;
}

async function* pieces(bytes: number, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes; at += size) yield new Uint8Array(Math.min(size, bytes - at)).fill(at / size);
}

const digest = "0".repeat(64);

describe("GuestAgent", () => {
  it("connects, says hello and counts the bytes of the channel", async () => {
    const { path } = await guest();
    const agent = await connectAgent(path);
    expect(agent.info).toEqual(info);
    const before = agent.channelBytes;
    await agent.call("info", {});
    expect(agent.channelBytes.sent).toBeGreaterThan(before.sent);
    expect(agent.channelBytes.received).toBeGreaterThan(before.received);
    agent.close();
  });

  it("rejects with the agent's own code, message and details", async () => {
    const { path } = await guest({
      "source.freeze": async () => {
        throw new MwarpError("MWARP_E_DUMP", "no", { details: ["line 1", "line 2"] });
      },
    });
    const agent = await connectAgent(path);
    await expect(agent.call("source.freeze", { migration: "m-12345678" })).rejects.toMatchObject({
      code: "MWARP_E_DUMP",
      message: "no",
      details: ["line 1", "line 2"],
    });
    agent.close();
  });

  it("rejects an answer that does not fit the schema, and parameters that do not", async () => {
    const { path } = await guest({ "rootfs.has": async () => ({ present: "yes" }) as never });
    const agent = await connectAgent(path);
    await expect(agent.call("rootfs.has", { digest })).rejects.toMatchObject({ code: "MWARP_E_PROTOCOL" });
    await expect(agent.call("source.freeze", { migration: "NO" })).rejects.toMatchObject({
      code: "MWARP_E_PROTOCOL",
    });
    agent.close();
  });

  it("carries streams larger than the window in both directions at once, in order", async () => {
    const total = 3 * STREAM_WINDOW_BYTES + 123;
    const { path } = await guest({
      "guest.exec": async (_params, { up, down }) => {
        for await (const data of up) await down.write(data, { fd: 1 });
        return { exitCode: 7 };
      },
    });
    const agent = await connectAgent(path);
    const received: Buffer[] = [];
    const fds = new Set<number | undefined>();
    const result = await agent.call(
      "guest.exec",
      { argv: ["cat"] },
      {
        up: pieces(total, 100_000),
        onChunk: async (data, meta) => {
          fds.add(meta.fd);
          received.push(Buffer.from(data));
        },
      },
    );
    const sent: Uint8Array[] = [];
    for await (const piece of pieces(total, 100_000)) sent.push(piece);
    expect(result.exitCode).toBe(7);
    expect(Buffer.concat(received).equals(Buffer.concat(sent))).toBe(true);
    expect([...fds]).toEqual([1]);
    agent.close();
  });

  it("lets the agent run no more than a window ahead of a slow reader", async () => {
    let sent = 0;
    const { path } = await guest({
      "source.layer": async (_params, { down }) => {
        for (let i = 0; i < 40; i++) {
          await down.write(new Uint8Array(256 * 1024));
          sent += 256 * 1024;
        }
        return {
          parts: { changes: 0, blocks: 0, archive: sent, log: 0, logBegins: true, large: 0 },
          reason: null,
        };
      },
    });
    const agent = await connectAgent(path);
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const call = agent.call(
      "source.layer",
      { migration: "m-12345678", pass: "whole" },
      { onChunk: () => held },
    );
    await sleep(100);
    expect(sent).toBeLessThanOrEqual(STREAM_WINDOW_BYTES);
    release();
    expect((await call).parts?.archive).toBe(40 * 256 * 1024);
    agent.close();
  });

  it("stops sending when the agent takes no more", async () => {
    let taken = 0;
    const { path } = await guest({
      "rootfs.put": async (_params, { signal }) => {
        await sleep(60_000, undefined, { signal });
        return {};
      },
    });
    const agent = await connectAgent(path);
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) {
        taken += 256 * 1024;
        yield new Uint8Array(256 * 1024);
      }
    }
    const call = agent.call("rootfs.put", { digest, bytes: 1 }, { up: endless(), timeoutMs: 150 });
    await expect(call).rejects.toMatchObject({ code: "MWARP_E_TIMEOUT" });
    expect(taken).toBeLessThanOrEqual(STREAM_WINDOW_BYTES + 2 * 256 * 1024);
    agent.close();
  });

  it("tells the agent of a cancelled and of a timed-out request", async () => {
    const reasons: unknown[] = [];
    const { path } = await guest({
      "source.freeze": (_params, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => {
            reasons.push(signal.reason);
            reject(signal.reason);
          });
        }),
    });
    const agent = await connectAgent(path);
    const controller = new AbortController();
    const first = agent.call("source.freeze", { migration: "m-12345678" }, { signal: controller.signal });
    setTimeout(() => controller.abort(), 20);
    await expect(first).rejects.toMatchObject({ code: "MWARP_E_CANCELLED" });
    const second = agent.call("source.freeze", { migration: "m-12345678" }, { timeoutMs: 30 });
    await expect(second).rejects.toMatchObject({ code: "MWARP_E_TIMEOUT" });
    await sleep(30);
    expect(reasons).toHaveLength(2);
    agent.close();
  });

  it("rejects everything under way when the connection is lost, and everything after", async () => {
    const made = await guest({ "source.freeze": () => new Promise(() => undefined) });
    const agent = await connectAgent(made.path);
    const pending = agent.call("source.freeze", { migration: "m-12345678" });
    setTimeout(() => made.clients[0]?.destroy(), 20);
    await expect(pending).rejects.toMatchObject({ code: "MWARP_E_AGENT_UNREACHABLE" });
    await expect(agent.call("info", {})).rejects.toMatchObject({ code: "MWARP_E_AGENT_UNREACHABLE" });
  });

  it("cancels in the agent what a vanished host had asked for once another connects", async () => {
    let cancelled: unknown;
    const made = await guest({
      "source.freeze": (_params, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => {
            cancelled = signal.reason;
            reject(signal.reason);
          });
        }),
    });
    const first = await connectAgent(made.path);
    const lost = first.call("source.freeze", { migration: "m-12345678" });
    await sleep(20);
    first.close();
    await expect(lost).rejects.toMatchObject({ code: "MWARP_E_AGENT_UNREACHABLE" });
    const second = await connectAgent(made.path);
    expect(cancelled).toMatchObject({ code: "MWARP_E_CANCELLED" });
    second.close();
  });

  it("gives up on a socket that another client holds, and says so", async () => {
    const { path } = await guest();
    const first = await connectAgent(path);
    await expect(connectAgent(path, { timeoutMs: 200 })).rejects.toMatchObject({
      code: "MWARP_E_AGENT_UNREACHABLE",
      message: expect.stringContaining("another client holds the channel"),
    });
    first.close();
  });

  it("passes events on until the listener leaves", async () => {
    const made = await guest();
    const agent = await connectAgent(made.path);
    const seen: string[] = [];
    const stop = agent.onEvent((event) => seen.push(event.event));
    made.session.event({ event: "containerExited", name: "web", exitCode: 1 });
    await sleep(20);
    stop();
    made.session.event({ event: "log", level: "info", message: "x" });
    await sleep(20);
    expect(seen).toEqual(["containerExited"]);
    agent.close();
  });
});

describe("AgentLink", () => {
  it("connects once for all who ask at the same time, and again after a loss", async () => {
    const made = await guest();
    const link = new AgentLink("vm-a", made.path);
    expect(link.state).toBe("closed");
    const [one, two] = await Promise.all([link.get(), link.get()]);
    expect(one).toBe(two);
    expect(link.state).toBe("open");
    made.clients[0]?.destroy();
    await sleep(20);
    expect(link.state).toBe("closed");
    const three = await link.get();
    expect(three).not.toBe(one);
    expect((await three.call("info", {})).hostname).toBe("h");
    link.close();
  });

  it("rejects while no agent is there and connects once there is one", async () => {
    const link = new AgentLink("vm-a", join(dir, "agent"));
    await expect(link.get()).rejects.toMatchObject({ code: "MWARP_E_AGENT_UNREACHABLE" });
    await guest();
    await link.get();
    expect(link.state).toBe("open");
    link.close();
  });
});

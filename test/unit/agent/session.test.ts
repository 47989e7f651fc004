/** The agent's end of the channel against a host that does not keep to the protocol. */
import { setTimeout as sleep } from "node:timers/promises";
import { beforeEach, describe, expect, it } from "vitest";
import type { Handlers } from "../../../src/agent/methods.js";
import { Session } from "../../../src/agent/session.js";
import { CHUNK_BYTES, STREAM_WINDOW_BYTES } from "../../../src/protocol/agent.js";
import {
  encodeFrame,
  encodeMarker,
  type Frame,
  FrameKind,
  FrameReader,
  SYNC,
  SYNC_ACK,
} from "../../../src/protocol/frame.js";
import { heldBytes } from "../../support/held-bytes.js";
import { info } from "./fake-agent.js";

const exec = { method: "guest.exec", params: { argv: ["cat"] } };
let said: Frame[];

function sessionWith(handlers: Partial<Handlers>): Session {
  const reader = new FrameReader(SYNC_ACK);
  const all = { hello: async () => info, ...handlers } as Handlers;
  const session = new Session(all, async (bytes) => {
    for (const item of reader.push(bytes)) if (item.type === "frame") said.push(item.frame);
  });
  session.receive(encodeMarker(SYNC, new Uint8Array(16)));
  return session;
}
const ask = (session: Session, kind: FrameKind, id: number, json: unknown, payload?: Uint8Array): void =>
  session.receive(encodeFrame(kind, id, json, payload));
const answers = (): Frame[] =>
  said
    .filter(({ kind }) => kind === FrameKind.response || kind === FrameKind.error)
    .sort((a, b) => a.id - b.id);

beforeEach(() => {
  said = [];
});

describe("the agent's session", () => {
  it("answers a request whose method is no name, whatever stands there instead", async () => {
    const session = sessionWith({});
    const methods: unknown[] = [
      undefined,
      null,
      7,
      {},
      [],
      { toString: 1, valueOf: 1 },
      "toString",
      "x".repeat(3_000_000),
    ];
    for (const [id, method] of methods.entries()) ask(session, FrameKind.request, id, { method, params: {} });
    for (const [index, json] of [null, 7, "hello", []].entries())
      ask(session, FrameKind.request, 100 + index, json);
    await sleep(20);
    expect(answers().map(({ id }) => id)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 100, 101, 102, 103]);
    for (const { kind, json } of answers()) {
      expect(kind).toBe(FrameKind.error);
      expect(json).toMatchObject({ code: "MWARP_E_PROTOCOL" });
    }
  });

  it("says so when an answer does not fit a frame, instead of nothing", async () => {
    const session = sessionWith({
      info: async () => ({ ...info, hostname: "h".repeat(5_000_000) }),
      "source.freeze": async () => {
        throw new Error("e".repeat(5_000_000));
      },
    });
    ask(session, FrameKind.request, 1, { method: "info", params: {} });
    ask(session, FrameKind.request, 2, {
      method: "source.freeze",
      params: { migration: "m-12345678" },
    });
    await sleep(20);
    expect(answers()).toMatchObject([
      { id: 1, kind: FrameKind.error, json: { code: "MWARP_E_PROTOCOL" } },
      { id: 2, kind: FrameKind.error, json: { code: "MWARP_E_INTERNAL" } },
    ]);
  });

  it("lets the request that has an id keep it: a second one is not served, and the first can still be cancelled", async () => {
    let served = 0;
    const session = sessionWith({
      "guest.exec": (_params, { signal }) => {
        served++;
        return new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason));
        });
      },
    });
    ask(session, FrameKind.request, 5, exec);
    ask(session, FrameKind.request, 5, exec);
    ask(session, FrameKind.cancel, 5, {});
    await sleep(20);
    expect(served).toBe(1);
    expect(answers()).toMatchObject([{ id: 5, kind: FrameKind.error, json: { code: "MWARP_E_CANCELLED" } }]);
    ask(session, FrameKind.request, 5, { method: "hello", params: { protocol: 1 } });
    await sleep(20);
    expect(answers()[1]).toMatchObject({ id: 5, kind: FrameKind.response });
  });

  for (const [title, bytes] of [
    ["large", CHUNK_BYTES],
    ["empty", 0],
  ] as const) {
    it(`ends a request for which the host sends ${title} chunks without credit, and keeps none of them`, async () => {
      let reason: unknown;
      const session = sessionWith({
        "guest.exec": (_params, { signal }) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener("abort", () => {
              reason = signal.reason;
              reject(signal.reason);
            });
          }),
      });
      ask(session, FrameKind.request, 1, exec);
      const frame = encodeFrame(FrameKind.chunk, 1, {}, new Uint8Array(bytes));
      const before = await heldBytes();
      for (let sent = 0; sent < 64 * 1024 * 1024; sent += bytes + 1024) session.receive(frame);
      expect((await heldBytes()) - before).toBeLessThan(4 * STREAM_WINDOW_BYTES);
      expect(reason).toMatchObject({ code: "MWARP_E_PROTOCOL", message: "the host sent more than it may" });
      expect(answers()).toMatchObject([{ id: 1, json: { code: "MWARP_E_PROTOCOL" } }]);
      ask(session, FrameKind.request, 2, { method: "hello", params: { protocol: 1 } });
      await sleep(20);
      expect(answers()[1]).toMatchObject({ id: 2, kind: FrameKind.response });
    });
  }

  it("gives credit for chunks that are taken in pieces, so that a stream of any length comes through", async () => {
    let taken = 0;
    const session = sessionWith({
      "guest.exec": async (_params, { up }) => {
        for (;;) {
          const data = await up.next(1000);
          if (data === null) return { exitCode: 0 };
          taken += data.length;
        }
      },
    });
    ask(session, FrameKind.request, 1, exec);
    for (let chunk = 0; chunk < 40; chunk++) {
      ask(session, FrameKind.chunk, 1, {}, new Uint8Array(CHUNK_BYTES));
      await sleep(0);
    }
    ask(session, FrameKind.end, 1, {});
    await sleep(20);
    expect(taken).toBe(40 * CHUNK_BYTES);
    expect(answers()).toMatchObject([{ id: 1, json: { exitCode: 0 } }]);
    const credit = said.filter(({ kind }) => kind === FrameKind.credit);
    expect(credit.map(({ json }) => json)).toEqual(Array(40).fill({ bytes: CHUNK_BYTES + 1024 }));
  });
});

/** Agents at the other end of a UNIX socket, as a VMM would offer it: an honest one, and one that a test speaks for. */
import { createServer, type Server, type Socket } from "node:net";
import type { Handlers } from "../../../src/agent/methods.js";
import { Session } from "../../../src/agent/session.js";
import { AGENT_PROTOCOL_VERSION } from "../../../src/protocol/agent.js";
import {
  encodeFrame,
  encodeMarker,
  type Frame,
  FrameKind,
  FrameReader,
  SYNC,
  SYNC_ACK,
} from "../../../src/protocol/frame.js";
import type { GuestInfo } from "../../../src/protocol/guest-info.js";

export const info: GuestInfo = {
  protocol: AGENT_PROTOCOL_VERSION,
  agentVersion: "0",
  bootId: "b",
  hostname: "h",
  kernel: "k",
  criuVersion: null,
  runcVersion: null,
  crun: null,
  quickTools: true,
  ipv6: true,
  admitsConnections: true,
  memTotalBytes: 1,
  memAvailableBytes: 1,
  swapTotalBytes: 0,
  transparentHugepages: "always",
  faultCosts: { hugeUs: 100, smallUs: 0.5, takeHugeUs: 1, takeSmallUs: 0.2, moveUs: 3 },
  cpuFlags: [],
  signalFrameBytes: 3632,
  directMapBase: "1",
  structPage: {
    vmemmapBase: "1",
    bytes: 64,
    flagsOffset: 0,
    compoundHeadOffset: 8,
    mappingOffset: 24,
    refcountOffset: 52,
  },
  taskStruct: { pidOffset: 0, mmOffset: 0, mmPgdOffset: 0 },
  kernelRootGpa: 0,
};

/** The agent's own session behind a UNIX socket that, like a VMM's, serves one client at a time. */
export class FakeGuest {
  readonly path: string;
  clients: Socket[] = [];
  readonly session: Session;
  readonly #server: Server;

  constructor(path: string, handlers: Partial<Handlers>) {
    this.path = path;
    const all = { hello: async () => info, info: async () => info, ...handlers } as Handlers;
    this.session = new Session(all, async (bytes) => void this.clients[0]?.write(bytes));
    this.#server = createServer((socket) => {
      this.clients.push(socket);
      socket.on("error", () => socket.destroy());
      socket.on("data", (data) => {
        if (this.clients[0] === socket) this.session.receive(data);
      });
      socket.on("close", () => {
        this.clients = this.clients.filter((client) => client !== socket);
      });
    });
  }

  listen(): Promise<void> {
    return new Promise((resolve) => this.#server.listen(this.path, resolve));
  }

  async close(): Promise<void> {
    for (const client of this.clients) client.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Shakes hands like an agent and leaves every word after that to the test. */
export class RawAgent {
  readonly path: string;
  /** What is said to each request; by default hello is answered and nothing else. */
  onFrame: (frame: Frame) => void = (frame) => this.greet(frame);
  /** While set, nothing is read after the handshake, so the host's socket fills up. */
  deaf = false;
  client: Socket | null = null;
  readonly #server: Server;

  constructor(path: string) {
    this.path = path;
    this.#server = createServer((socket) => {
      this.client?.destroy();
      this.client = socket;
      const reader = new FrameReader(SYNC);
      socket.on("error", () => socket.destroy());
      socket.on("data", (data: Uint8Array) => {
        for (const item of reader.push(data)) {
          if (item.type === "sync") socket.write(encodeMarker(SYNC_ACK, item.nonce));
          else this.onFrame(item.frame);
        }
        if (this.deaf) socket.pause();
      });
    });
  }

  listen(): Promise<void> {
    return new Promise((resolve) => this.#server.listen(this.path, resolve));
  }

  /** Answers hello; true when it was one. */
  greet({ id, json }: Frame): boolean {
    if ((json as { method?: unknown }).method !== "hello") return false;
    this.say(FrameKind.response, id, info);
    return true;
  }

  say(kind: FrameKind, id: number, json: unknown, payload?: Uint8Array): void {
    this.client?.write(encodeFrame(kind, id, json, payload));
  }

  async close(): Promise<void> {
    this.client?.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

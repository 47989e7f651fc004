/**
 * Stands between the daemon and a VM's agent and lets the agent lie: answers are changed on their way, held back, or drowned in
 * garbage. What a guest that is in somebody else's hands could send, without a guest that has to be broken into.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import path from "node:path";
import { labFile } from "../../src/paths.js";
import {
  encodeFrame,
  encodeMarker,
  FrameKind,
  FrameReader,
  SYNC,
  SYNC_ACK,
} from "../../src/protocol/frame.js";
import type { TestLab } from "./lab.js";

/** What an agent in somebody else's hands does. Without an entry it is honest there. */
export interface Lie {
  /**
   * What becomes of its answer to `method`: another answer, bytes that are no frame, or nothing at all. Of a method that it
   * never heard of there is no result.
   */
  readonly answer?: (method: string, result: unknown) => unknown;
  /** Methods that are answered and not done. */
  readonly withheld?: readonly string[];
  /** What becomes of binary data in the answer to `method`. */
  readonly data?: (method: string, payload: Uint8Array) => Uint8Array;
}
export const silence = Symbol("no answer");
export const garbage = Symbol("bytes that are no frame");
export const flood = Symbol("chunks without end");
/** The connection ends where the answer should have come. */
export const cut = Symbol("the channel is cut");

const FLOOD_CHUNK = new Uint8Array(256 * 1024);

export class LyingAgent implements AsyncDisposable {
  /** Null: it tells the truth. */
  lie: Lie | null = null;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(
    private readonly agentSocket: string,
    readonly path: string,
  ) {
    this.#server = createServer((client) => this.#serve(client));
  }

  static async start(agentSocket: string, path: string): Promise<LyingAgent> {
    rmSync(path, { force: true });
    const liar = new LyingAgent(agentSocket, path);
    await new Promise<void>((resolve) => liar.#server.listen(path, resolve));
    return liar;
  }

  /** Ends every connection; the next one is served as ever. */
  hangUp(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.hangUp();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #serve(client: Socket): void {
    const agent = createConnection(this.agentSocket);
    const methods = new Map<number, string>();
    const requests = new FrameReader(SYNC);
    const answers = new FrameReader(SYNC_ACK);
    for (const [one, other] of [
      [client, agent],
      [agent, client],
    ] as const) {
      this.#sockets.add(one);
      one.on("error", () => one.destroy());
      one.on("close", () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
    client.on("data", (bytes: Buffer) => {
      for (const item of requests.push(bytes)) {
        if (item.type === "sync") {
          agent.write(encodeMarker(SYNC, item.nonce));
          continue;
        }
        const { kind, id, json, payload } = item.frame;
        if (kind === FrameKind.request) {
          const { method } = json as { method: string };
          if (this.lie?.withheld?.includes(method)) {
            this.#tell(client, id, this.lie.answer?.(method, undefined));
            continue;
          }
          methods.set(id, method);
        }
        agent.write(encodeFrame(kind, id, json, payload));
      }
    });
    agent.on("data", (bytes: Buffer) => {
      for (const item of answers.push(bytes)) {
        if (item.type === "sync") {
          client.write(encodeMarker(SYNC_ACK, item.nonce));
          continue;
        }
        const { kind, id, json, payload } = item.frame;
        const method = methods.get(id);
        const { answer, data } = this.lie ?? {};
        if (kind === FrameKind.response && method !== undefined && answer !== undefined)
          this.#tell(client, id, answer(method, json));
        else if (kind === FrameKind.chunk && method !== undefined && data !== undefined)
          client.write(encodeFrame(kind, id, json, data(method, payload)));
        else client.write(encodeFrame(kind, id, json, payload));
      }
    });
  }

  #tell(client: Socket, id: number, answer: unknown): void {
    if (answer === silence) return;
    if (answer === cut) return void client.destroy();
    if (answer === garbage) {
      client.write(FLOOD_CHUNK.map((_, index) => (index * 7919) & 0xff));
      return;
    }
    if (answer !== flood) {
      client.write(encodeFrame(FrameKind.response, id, answer));
      return;
    }
    const pour = (): void => {
      while (!client.destroyed && client.write(encodeFrame(FrameKind.chunk, id, {}, FLOOD_CHUNK)));
      if (!client.destroyed) client.once("drain", pour);
    };
    pour();
  }
}

/** Puts one before the agent of every VM of a lab, by name. No daemon may run; the next one meets them. */
export async function interpose(lab: TestLab): Promise<Readonly<Record<string, LyingAgent>>> {
  const file = labFile(lab.mwarp.env);
  const state = JSON.parse(readFileSync(file, "utf8")) as { vms: { name: string; agentSocket: string }[] };
  const liars: Record<string, LyingAgent> = {};
  for (const vm of state.vms) {
    const socket = path.join(lab.runDir, `liar-${vm.name}.sock`);
    liars[vm.name] = await LyingAgent.start(vm.agentSocket, socket);
    vm.agentSocket = socket;
  }
  writeFileSync(file, JSON.stringify(state));
  return liars;
}

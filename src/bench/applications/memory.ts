/** The memory-bound program of native/bench/touch.c. */
import { connect, type Socket } from "node:net";
import { type ClientApplication, type Connection, ConnectionLost } from "./application.js";
import type { ClientOptions } from "./client-protocol.js";

const CONNECT_MS = 5_000;
const PAGES_PER_REQUEST = 256;
const REQUEST_BYTES = 24;
export const ANSWER_BYTES = 32;
const EVERY_PAGE = 0;

export class MemoryApplication implements ClientApplication {
  readonly operation = `read and write ${PAGES_PER_REQUEST} random pages per request`;

  constructor(private readonly options: ClientOptions) {}

  async probe(): Promise<void> {
    (await this.open()).close();
  }

  /** The program fills its memory before it listens. */
  async load(): Promise<void> {
    await this.probe();
  }

  async check(): Promise<number> {
    const connection = await this.open();
    try {
      return await connection.ask(EVERY_PAGE);
    } finally {
      connection.close();
    }
  }

  connect(): Promise<Connection> {
    return this.open();
  }

  private open(): Promise<MemoryConnection> {
    return MemoryConnection.open(this.options.host, this.options.port);
  }
}

export interface TouchAnswer {
  readonly token: bigint;
  /** Requests of the connection, this one included. */
  readonly requests: bigint;
  readonly touches: bigint;
  readonly wrong: bigint;
}

export function encodeRequest(token: bigint, pages: number, seed: bigint): Buffer {
  const bytes = Buffer.alloc(REQUEST_BYTES);
  bytes.writeBigUInt64LE(token, 0);
  bytes.writeBigUInt64LE(BigInt(pages), 8);
  bytes.writeBigUInt64LE(seed, 16);
  return bytes;
}

/** Takes bytes as they come from the socket and gives whole answers. */
export class AnswerParser {
  private held = Buffer.alloc(0);

  push(chunk: Buffer): TouchAnswer[] {
    this.held = Buffer.concat([this.held, chunk]);
    const answers: TouchAnswer[] = [];
    for (; this.held.length >= ANSWER_BYTES; this.held = this.held.subarray(ANSWER_BYTES)) {
      const word = (index: number): bigint => this.held.readBigUInt64LE(index * 8);
      answers.push({ token: word(0), requests: word(1), touches: word(2), wrong: word(3) });
    }
    return answers;
  }
}

interface Waiter {
  resolve(answer: TouchAnswer): void;
  reject(error: Error): void;
}

class MemoryConnection implements Connection {
  private readonly parser = new AnswerParser();
  private waiter: Waiter | null = null;
  private failure: ConnectionLost | null = null;
  private requests = 0n;

  private constructor(private readonly socket: Socket) {
    socket.setNoDelay(true);
    socket.on("data", (chunk) => this.receive(chunk));
    socket.on("error", (cause) => this.fail(cause));
    socket.on("close", () => this.fail(new Error("the program closed the connection")));
  }

  static open(host: string, port: number): Promise<MemoryConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port });
      const failed = (cause: Error): void => {
        clearTimeout(timer);
        reject(new ConnectionLost("no connection to the program", { cause }));
      };
      const timer = setTimeout(() => socket.destroy(new Error("no answer")), CONNECT_MS);
      socket.once("error", failed);
      socket.once("connect", () => {
        clearTimeout(timer);
        socket.off("error", failed);
        resolve(new MemoryConnection(socket));
      });
    });
  }

  operate(): Promise<number> {
    return this.ask(PAGES_PER_REQUEST);
  }

  /** Touches that many pages, or looks at every one. Resolves with the number of things that were wrong. */
  async ask(pages: number): Promise<number> {
    const token = ++this.requests;
    const seed = BigInt(Math.floor(Math.random() * Number.MAX_SAFE_INTEGER));
    const answer = await new Promise<TouchAnswer>((resolve, reject) => {
      if (this.failure !== null) return reject(this.failure);
      this.waiter = { resolve, reject };
      this.socket.write(encodeRequest(token, pages, seed));
    });
    return (answer.token === token && answer.requests === token ? 0 : 1) + Number(answer.wrong);
  }

  close(): void {
    this.fail(new Error("closed"));
  }

  private receive(chunk: Buffer): void {
    for (const answer of this.parser.push(chunk)) {
      const waiter = this.waiter;
      this.waiter = null;
      if (waiter === null) this.fail(new Error("an answer to nothing"));
      else waiter.resolve(answer);
    }
  }

  private fail(cause: Error): void {
    this.failure ??= new ConnectionLost("the connection to the program is gone", { cause });
    this.socket.destroy();
    this.waiter?.reject(this.failure);
    this.waiter = null;
  }
}

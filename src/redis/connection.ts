/** One TCP connection to Redis. Commands may be pipelined: replies come in the order of the commands. */
import { connect, type Socket } from "node:net";
import { encodeCommand, RedisError, type Reply, ReplyParser } from "./resp.js";

interface Waiter {
  resolve(reply: Reply): void;
  reject(error: Error): void;
}

export class RedisConnection {
  private readonly waiters: Waiter[] = [];
  private readonly parser = new ReplyParser();
  private failure: Error | undefined;

  private constructor(private readonly socket: Socket) {
    socket.setNoDelay(true);
    socket.on("data", (chunk) => this.receive(chunk));
    socket.on("error", (error) => this.fail(error));
    socket.on("close", () => this.fail(new Error("Redis closed the connection")));
  }

  /** Rejects when there is no connection within `timeoutMs`. */
  static open(host: string, port: number, timeoutMs: number): Promise<RedisConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port });
      const timer = setTimeout(
        () => socket.destroy(new Error(`no connection to ${host}:${port}`)),
        timeoutMs,
      );
      const failed = (error: Error): void => {
        clearTimeout(timer);
        reject(error);
      };
      socket.once("error", failed);
      socket.once("connect", () => {
        clearTimeout(timer);
        socket.off("error", failed);
        resolve(new RedisConnection(socket));
      });
    });
  }

  /** Sends a command and waits for its reply. An error reply rejects with `RedisError`; there is no time limit here. */
  call(...args: (string | Buffer)[]): Promise<Reply> {
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      this.waiters.push({ resolve, reject });
      this.socket.write(encodeCommand(args));
    });
  }

  close(): void {
    this.fail(new Error("connection closed"));
  }

  private receive(chunk: Buffer): void {
    let replies: Reply[];
    try {
      replies = this.parser.push(chunk);
    } catch (error) {
      // Not as the RedisError it is: those are replies, after which a connection is as good as before.
      this.fail(new Error(error instanceof Error ? error.message : String(error)));
      return;
    }
    for (const reply of replies) {
      const waiter = this.waiters.shift();
      if (reply instanceof RedisError) waiter?.reject(reply);
      else waiter?.resolve(reply);
    }
  }

  private fail(error: Error): void {
    this.failure ??= error;
    this.socket.destroy();
    for (const waiter of this.waiters.splice(0)) waiter.reject(this.failure);
  }
}

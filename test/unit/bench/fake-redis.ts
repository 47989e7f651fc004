/** A Redis of a few commands, which a test may make forget, repeat or hang up. */
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { type Reply, ReplyParser } from "../../../src/redis/resp.js";

export class FakeRedis implements AsyncDisposable {
  /** Called for each command before it is done; what it returns is done instead: nothing, or the same twice. */
  meddle: (command: string) => "once" | "never" | "twice" | "hang up" = () => "once";
  private readonly values = new Map<string, Buffer>();
  private readonly sockets = new Set<Socket>();

  private constructor(private readonly server: Server) {
    server.on("connection", (socket) => {
      socket.setNoDelay(true);
      this.sockets.add(socket);
      socket.on("close", () => this.sockets.delete(socket));
      socket.on("error", () => undefined);
      const parser = new ReplyParser();
      socket.on("data", (chunk) => {
        // A command looks like a reply that is an array.
        for (const command of parser.push(chunk)) this.take(socket, command);
      });
    });
  }

  static async start(): Promise<FakeRedis> {
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new FakeRedis(server);
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
    await once(this.server, "close");
  }

  private take(socket: Socket, command: Reply): void {
    if (!Array.isArray(command)) throw new Error("not a command");
    const [name, ...args] = command.map((word) => word as Buffer);
    const what = this.meddle(name.toString());
    if (what === "hang up") socket.destroy();
    else socket.write(this.answer(name.toString(), args, what === "never" ? 0 : what === "twice" ? 2 : 1));
  }

  private answer(name: string, args: Buffer[], times: number): Buffer {
    const [key = ""] = args.map(String);
    switch (name) {
      case "PING":
        return Buffer.from("+PONG\r\n");
      case "GET":
        return bulk(this.values.get(key));
      case "MGET":
        return Buffer.concat([
          Buffer.from(`*${args.length}\r\n`),
          ...args.map((one) => bulk(this.values.get(String(one)))),
        ]);
      case "INCR": {
        const before = Number(this.values.get(key) ?? 0);
        this.values.set(key, Buffer.from(String(before + times)));
        return Buffer.from(`:${before + times}\r\n`);
      }
      case "SET":
      case "MSET":
        if (times > 0)
          for (let i = 0; i < args.length; i += 2) this.values.set(String(args[i]), Buffer.from(args[i + 1]));
        return Buffer.from("+OK\r\n");
      default:
        return Buffer.from(`-ERR unknown command ${name}\r\n`);
    }
  }
}

const bulk = (value: Buffer | undefined): Buffer =>
  value === undefined
    ? Buffer.from("$-1\r\n")
    : Buffer.concat([Buffer.from(`$${value.length}\r\n`), value, Buffer.from("\r\n")]);

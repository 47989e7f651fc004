/** Redis with keys of 4 KiB. Each connection has keys of its own, so that it knows what every answer must be. */
import { RedisConnection } from "../../redis/connection.js";
import { check, keyName, load, VALUE_BYTES, valueFor } from "../../redis/dataset.js";
import { RedisError, type Reply } from "../../redis/resp.js";
import { type ClientApplication, type Connection, ConnectionLost } from "./application.js";
import type { ClientOptions } from "./client-protocol.js";

const CONNECT_MS = 5_000;

export class RedisApplication implements ClientApplication {
  readonly operation: string;
  private readonly keys: KeyState[];

  constructor(private readonly options: ClientOptions) {
    const { bytes, connections } = options;
    const share = Math.max(1, Math.floor(bytes / VALUE_BYTES / connections));
    this.keys = Array.from({ length: connections }, (_, lane) => new KeyState(share, lane, connections));
    this.operation = `GET and SET in turn of ${this.total} keys of 4 KiB, an INCR beside each`;
  }

  async probe(): Promise<void> {
    await this.withConnection((redis) => redis.call("PING"));
  }

  async load(progress: (part: number) => void): Promise<void> {
    await this.withConnection((redis) => load(redis, this.total, (done) => progress(done / this.total)));
  }

  async check(progress: (part: number) => void): Promise<number> {
    const versionOf = (key: number): number => this.keys[key % this.keys.length].versionOf(key);
    const report = (done: number): void => progress(done / this.total);
    const found = await this.withConnection((redis) => check(redis, this.total, report, versionOf));
    return found.missing + found.wrong;
  }

  async connect(lane: number): Promise<Connection> {
    const connection = new RedisLane(await this.open(), `bench:count:${lane}`, this.keys[lane]);
    await connection.begin();
    return connection;
  }

  private get total(): number {
    return this.keys.reduce((sum, { count }) => sum + count, 0);
  }

  private open(): Promise<RedisConnection> {
    const { host, port } = this.options;
    return RedisConnection.open(host, port, CONNECT_MS).catch(lost);
  }

  private async withConnection<T>(work: (redis: RedisConnection) => Promise<T>): Promise<T> {
    const redis = await this.open();
    try {
      return await work(redis);
    } finally {
      redis.close();
    }
  }
}

const lost = (cause: unknown): never => {
  throw new ConnectionLost("no connection to Redis", { cause });
};

/** The reply, an error reply as a value; anything else means that the connection is gone. */
const replyOf = (call: Promise<Reply>): Promise<Reply> =>
  call.catch((error: unknown) => (error instanceof RedisError ? error : lost(error)));

/** The keys of one connection, every `stride`th from `first` on, and how often each was written after it was loaded. */
class KeyState {
  /** A write of which no answer came; whether it was done is not known. */
  unsettled: number | null = null;
  private readonly versions: Uint32Array;
  private random: number;

  constructor(
    readonly count: number,
    private readonly first: number,
    private readonly stride: number,
  ) {
    this.versions = new Uint32Array(count);
    this.random = first + 1;
  }

  versionOf(key: number): number {
    return this.versions[Math.floor(key / this.stride)];
  }

  written(key: number): void {
    this.versions[Math.floor(key / this.stride)]++;
  }

  anyKey(): number {
    this.random = (Math.imul(this.random, 0x0019660d) + 0x3c6ef35f) >>> 0;
    return ((this.random >>> 4) % this.count) * this.stride + this.first;
  }
}

class RedisLane implements Connection {
  /** What the counter, which only this connection increments, stands at. */
  private counted = 0;
  private writes = false;

  constructor(
    private readonly redis: RedisConnection,
    private readonly counter: string,
    private readonly keys: KeyState,
  ) {}

  /** What the connection before this one left in doubt is done anew. */
  async begin(): Promise<void> {
    await replyOf(this.redis.call("SET", this.counter, "0"));
    if (this.keys.unsettled !== null) await this.write(this.keys.unsettled);
  }

  async operate(): Promise<number> {
    this.writes = !this.writes;
    const key = this.keys.anyKey();
    const [counted, right] = await Promise.all([
      replyOf(this.redis.call("INCR", this.counter)),
      this.writes ? this.write(key) : this.read(key),
    ]);
    const wrong = (counted === this.counted + 1 ? 0 : 1) + (right ? 0 : 1);
    this.counted = typeof counted === "number" ? counted : this.counted;
    return wrong;
  }

  close(): void {
    this.redis.close();
  }

  private async read(key: number): Promise<boolean> {
    const value = await replyOf(this.redis.call("GET", keyName(key)));
    return Buffer.isBuffer(value) && value.equals(valueFor(key, this.keys.versionOf(key)));
  }

  private async write(key: number): Promise<boolean> {
    this.keys.unsettled = key;
    const value = valueFor(key, this.keys.versionOf(key) + 1);
    const right = (await replyOf(this.redis.call("SET", keyName(key), value))) === "OK";
    if (right) this.keys.written(key);
    this.keys.unsettled = null;
    return right;
  }
}

import { describe, expect, it } from "vitest";
import { type Connection, ConnectionLost } from "../../../src/bench/applications/application.js";
import { RedisApplication } from "../../../src/bench/applications/redis.js";
import { FakeRedis } from "./fake-redis.js";

const nothing = (): void => undefined;

/** Loaded with 40 keys for two connections, of which the first is open. */
async function loaded(redis: FakeRedis): Promise<{ application: RedisApplication; connection: Connection }> {
  const application = new RedisApplication({
    application: "redis",
    host: "127.0.0.1",
    port: redis.port,
    connections: 2,
    bytes: 40 * 4096,
  });
  await application.probe();
  await application.load(nothing);
  return { application, connection: await application.connect(0) };
}

async function operate(connection: Connection, times: number): Promise<number> {
  let wrong = 0;
  for (let i = 0; i < times; i++) wrong += await connection.operate();
  return wrong;
}

describe("the client of Redis", () => {
  it("finds nothing wrong with a Redis that does what it is asked", async () => {
    await using redis = await FakeRedis.start();
    const { application, connection } = await loaded(redis);
    const other = await application.connect(1);
    expect(await Promise.all([operate(connection, 300), operate(other, 300)])).toEqual([0, 0]);
    expect(await application.check(nothing)).toBe(0);
    connection.close();
    other.close();
  });

  it.each([
    ["a SET that was lost", "SET", "never"],
    ["an INCR that was lost", "INCR", "never"],
    ["an INCR that was done twice", "INCR", "twice"],
  ] as const)("finds %s", async (_, command, how) => {
    await using redis = await FakeRedis.start();
    const { application, connection } = await loaded(redis);
    expect(await operate(connection, 10)).toBe(0);
    let left = 1;
    redis.meddle = (name) => (name === command && left-- > 0 ? how : "once");
    const seen = await operate(connection, 2);
    const found = await application.check(nothing);
    expect(seen + found).toBe(1);
    connection.close();
  });

  it("takes an error reply for a wrong answer, and goes on", async () => {
    await using redis = await FakeRedis.start();
    const { application, connection } = await loaded(redis);
    const broken = new RedisApplication({
      application: "redis",
      host: "127.0.0.1",
      port: redis.port,
      connections: 2,
      bytes: 80 * 4096,
    });
    const unloaded = await broken.connect(1);
    expect(await operate(unloaded, 200)).toBeGreaterThan(0);
    expect(await operate(connection, 10)).toBe(0);
    expect(await application.check(nothing)).toBeGreaterThan(0);
    unloaded.close();
    connection.close();
  });

  it("says that a connection is lost, and knows afterwards what every key must have", async () => {
    await using redis = await FakeRedis.start();
    const { application, connection } = await loaded(redis);
    await operate(connection, 10);
    redis.meddle = (name) => (name === "SET" ? "hang up" : "once");
    await expect(operate(connection, 2)).rejects.toThrow(ConnectionLost);
    redis.meddle = () => "once";
    const next = await application.connect(0);
    expect(await operate(next, 300)).toBe(0);
    expect(await application.check(nothing)).toBe(0);
    next.close();
  });

  it("has an operation under way rejected when it is closed", async () => {
    await using redis = await FakeRedis.start();
    const { connection } = await loaded(redis);
    const operation = connection.operate();
    connection.close();
    await expect(operation).rejects.toThrow(ConnectionLost);
  });

  it("is told at once when nobody listens", async () => {
    const { port } = await FakeRedis.start().then(async (redis) => {
      const found = { port: redis.port };
      await redis[Symbol.asyncDispose]();
      return found;
    });
    const options = { application: "redis", host: "127.0.0.1", port, connections: 1, bytes: 4096 } as const;
    await expect(new RedisApplication(options).probe()).rejects.toThrow(ConnectionLost);
  });
});

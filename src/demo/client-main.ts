/** The demo's client of Redis, a process of its own: `client-main.js HOST PORT`, started in the lab's network namespace. */
import { setTimeout as sleep } from "node:timers/promises";
import { serveRequests } from "../lab/client-serve.js";
import { RedisConnection } from "../redis/connection.js";
import { check, load } from "../redis/dataset.js";
import { ClientRequestSchema } from "./client-protocol.js";
import { Traffic } from "./traffic.js";

const CONNECT_MS = 5_000;
const RETRY_MS = 100;

const [host, portText] = process.argv.slice(2);
const port = Number(portText);
if (!host || !Number.isInteger(port)) {
  process.stderr.write("usage: client-main.js HOST PORT\n");
  process.exit(2);
}

const traffic = new Traffic(host, port);

/** Runs `work` on a connection of its own. */
async function withRedis<T>(work: (redis: RedisConnection) => Promise<T>): Promise<T> {
  const redis = await RedisConnection.open(host, port, CONNECT_MS);
  try {
    return await work(redis);
  } finally {
    redis.close();
  }
}

/** Whether Redis took a command before the time was up. */
async function untilReady(timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (performance.now() < deadline) {
    try {
      await withRedis((redis) => redis.call("PING"));
      return true;
    } catch {
      // It has not started to listen yet: the reason to be here.
      await sleep(RETRY_MS);
    }
  }
  return false;
}

serveRequests(ClientRequestSchema, async (request, progress) => {
  switch (request.do) {
    case "ready":
      return untilReady(request.timeout_ms);
    case "load":
      return withRedis((redis) => load(redis, request.keys, progress));
    case "check":
      return withRedis((redis) => check(redis, request.keys, progress));
    case "traffic":
      void traffic.run();
      return null;
    case "flowing":
      return traffic.flows(request.timeout_ms);
    case "mark":
      return traffic.take();
  }
});

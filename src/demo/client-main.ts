/**
 * The demo's client of Redis, a process of its own: `client-main.js HOST PORT`, started in the lab's network namespace.
 * Takes requests on stdin, answers on stdout (client-protocol.ts), ends when stdin ends.
 */
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { type ClientAnswer, type ClientRequest, ClientRequestSchema } from "./client-protocol.js";
import { check, load } from "./dataset.js";
import { RedisConnection } from "./redis-connection.js";
import { Traffic } from "./traffic.js";

const CONNECT_MS = 5_000;
const PROGRESS_MS = 200;
const RETRY_MS = 100;

const [host, portText] = process.argv.slice(2);
const port = Number(portText);
if (!host || !Number.isInteger(port)) {
  process.stderr.write("usage: client-main.js HOST PORT\n");
  process.exit(2);
}

const traffic = new Traffic(host, port);
const say = (answer: ClientAnswer): void => void process.stdout.write(`${JSON.stringify(answer)}\n`);

/** Runs `work` on a connection of its own, with progress a few times a second. */
async function withRedis<T>(
  id: number,
  work: (redis: RedisConnection, progress: (done: number) => void) => Promise<T>,
): Promise<T> {
  const redis = await RedisConnection.open(host, port, CONNECT_MS);
  let last = 0;
  try {
    return await work(redis, (done) => {
      if (performance.now() - last < PROGRESS_MS) return;
      last = performance.now();
      say({ id, event: "progress", done });
    });
  } finally {
    redis.close();
  }
}

/** Whether Redis took a command before the time was up. */
async function untilReady(timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (performance.now() < deadline) {
    try {
      const redis = await RedisConnection.open(host, port, CONNECT_MS);
      await redis.call("PING");
      redis.close();
      return true;
    } catch {
      // It has not started to listen yet: the reason to be here.
      await sleep(RETRY_MS);
    }
  }
  return false;
}

async function answer(request: ClientRequest): Promise<unknown> {
  switch (request.do) {
    case "ready":
      return untilReady(request.timeout_ms);
    case "load":
      await withRedis(request.id, (redis, progress) => load(redis, request.keys, progress));
      return null;
    case "check":
      return withRedis(request.id, (redis, progress) => check(redis, request.keys, progress));
    case "traffic":
      void traffic.run();
      return null;
    case "flowing":
      return traffic.flows(request.timeout_ms);
    case "mark":
      return traffic.take();
  }
}

async function serve(line: string): Promise<void> {
  const request = ClientRequestSchema.parse(JSON.parse(line));
  try {
    say({ id: request.id, event: "result", result: await answer(request) });
  } catch (error) {
    say({ id: request.id, event: "error", message: error instanceof Error ? error.message : String(error) });
  }
}

const input = createInterface({ input: process.stdin });
input.on("line", (line) => void serve(line));
input.on("close", () => process.exit(0));
// A Ctrl-C at the terminal reaches the whole process group; the demo says when this process ends.
process.on("SIGINT", () => undefined);

/** The client of one application, a process of its own: `client-main.js OPTIONS` (JSON), started in the lab's network namespace. */
import { setTimeout as sleep } from "node:timers/promises";
import { serveRequests } from "../../lab/client-serve.js";
import type { Application } from "../records.js";
import type { ClientApplication } from "./application.js";
import {
  type ClientOptions,
  ClientOptionsSchema,
  ClientRequestSchema,
  type Faults,
} from "./client-protocol.js";
import { ClosedLoop } from "./closed-loop.js";
import { MemoryApplication } from "./memory.js";
import { OperationLog } from "./operations.js";
import { PostgresApplication } from "./postgres.js";
import { RedisApplication } from "./redis.js";
import { cutTimeline } from "./timeline.js";

const RETRY_MS = 200;

const makers: Readonly<Record<Application, (options: ClientOptions) => ClientApplication>> = {
  redis: (options) => new RedisApplication(options),
  postgres: (options) => new PostgresApplication(options),
  memory: (options) => new MemoryApplication(options),
};

const options = ClientOptionsSchema.parse(JSON.parse(process.argv[2] ?? ""));
const application = makers[options.application](options);
const log = new OperationLog();
const loop = new ClosedLoop(options.connections, (lane) => application.connect(lane), log);

async function untilReady(timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (performance.now() < deadline) {
    try {
      await application.probe();
      return true;
    } catch {
      // It has not started to listen yet: the reason to be here.
      await sleep(RETRY_MS);
    }
  }
  return false;
}

async function settle(timeoutMs: number, progress: (part: number) => void): Promise<Faults> {
  await loop.pause(timeoutMs);
  const faults = loop.takeFaults();
  const found = await application.check(progress);
  return { ...faults, wrong_answers: faults.wrong_answers + found };
}

serveRequests(ClientRequestSchema, async (request, progress) => {
  switch (request.do) {
    case "ready":
      return untilReady(request.timeout_ms);
    case "load":
      await application.load(progress);
      return application.operation;
    case "resume":
      log.clear();
      loop.resume();
      return null;
    case "timeline":
      return cutTimeline(log, request.window);
    case "settle":
      return settle(request.timeout_ms, progress);
  }
});

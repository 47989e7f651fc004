#!/usr/bin/env node
// `application-client.mjs OPTIONS`: keeps a server busy over a few connections and writes down every operation. OPTIONS is JSON:
// {"protocol", "host", "port", "connections", "pause_ms"}. A connection that is lost is not opened again: it is a fault.
// It is asked by client-process.ts: "start" opens the connections, "operations" gives [end, latency] of each operation since
// "start" (ms, CLOCK_MONOTONIC), "settle" stops when every answer is there, looks at all the data, and gives {"answers", "faults"}.
import { setTimeout as sleep } from "node:timers/promises";
import { string } from "zod/mini";
import { protocols } from "./applications/asking.mjs";

/** @param {string} file */
const built = (file) => import(new URL(`../../dist/${file}`, import.meta.url).href);
const { serveRequests } = await built("lab/client-serve.js");
const { monotonicMs } = await built("bench/applications/clock.js");

const CONNECT_TRY_MS = 500;

/** @type {{ protocol: keyof typeof protocols, host: string, port: number, connections: number, pause_ms: number }} */
const { protocol, host, port, connections, pause_ms: pause } = JSON.parse(process.argv[2]);

/** @type {[number, number][]} */
const operations = [];
/** @type {string[]} */
const faults = [];
/** @type {import("./applications/asking.mjs").Asking[]} */
const lanes = [];
/** @type {Promise<void>[]} */
let running = [];
let stopped = false;

/** Asks until the server listens. @param {number} lane */
async function open(lane) {
  for (;;) {
    try {
      return await protocols[protocol]({ host, port, lane });
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== "ECONNREFUSED") throw error;
      await sleep(CONNECT_TRY_MS);
    }
  }
}

/** @param {import("./applications/asking.mjs").Asking} asking @param {number} lane */
async function keepAsking(asking, lane) {
  try {
    while (!stopped) {
      const begin = monotonicMs();
      const wrong = await asking.operate();
      const end = monotonicMs();
      if (wrong !== null) faults.push(`connection ${lane}: ${wrong}`);
      operations.push([end, end - begin]);
      await sleep(pause);
    }
  } catch (error) {
    faults.push(`connection ${lane} was lost: ${error}`);
  }
}

async function start() {
  for (let lane = 0; lane < connections; lane++) lanes.push(await open(lane));
  running = lanes.map(keepAsking);
}

async function settle() {
  stopped = true;
  await Promise.all(running);
  if (faults.length === 0) for (const lane of lanes) faults.push(...(await lane.check()));
  for (const lane of lanes) lane.close();
  return { answers: operations.length, faults };
}

serveRequests(string(), async (/** @type {string} */ request) => {
  if (request === "start") return start();
  if (request === "settle") return settle();
  if (request === "operations") return operations;
  throw new Error(`no such request: ${request}`);
});

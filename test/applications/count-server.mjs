// `node count-server.mjs PORT`: answers as tcpcount does (test/workloads/tcpcount.c), and has all that is alive in a Node.js process
// while it does: garbage by the megabyte, a worker thread that computes, and a timer. SIGUSR1 asks for a verdict.
import { createServer } from "node:net";
import { isMainThread, parentPort, Worker } from "node:worker_threads";

const TICK_MS = 100;
const KEPT = 2000;

/** A value that says of itself whether it is whole. @param {number} key */
const makeValue = (key) => ({ key, text: `${key}:`.repeat(8), half: [key / 2, -key] });

/** @param {{ key: number, text: string, half: number[] }} value */
const isWhole = ({ key, text, half }) =>
  text === `${key}:`.repeat(8) && half[0] === key / 2 && half[1] === -key;

function serve(/** @type {number} */ port) {
  const kept = new Map(Array.from({ length: KEPT }, (_, key) => [key, makeValue(key)]));
  let answers = 0;
  let ticks = 0;
  let rounds = 0;
  let next = KEPT;
  setInterval(() => ticks++, TICK_MS);
  const worker = new Worker(new URL(import.meta.url));
  worker.on("message", (sum) => {
    if (sum !== 499_500) throw new Error(`the worker says ${sum}`);
    rounds++;
  });
  worker.on("error", (error) => {
    throw error;
  });

  createServer({ noDelay: true }, (socket) => {
    let lines = 0;
    let rest = "";
    socket.setEncoding("utf8");
    socket.on("error", () => undefined);
    socket.on("data", (data) => {
      const parts = `${rest}${data}`.split("\n");
      rest = parts.pop() ?? "";
      for (const line of parts) {
        // One value goes and another comes: the collector has young and old objects to move.
        kept.delete(next - KEPT);
        kept.set(next, makeValue(next));
        next++;
        answers++;
        lines++;
        socket.write(`${line} ${lines}\n`);
      }
    });
  }).listen(port, () => console.log(`node ready port=${port}`));

  process.on("SIGUSR1", () => {
    const broken = [...kept.values()].filter((value) => !isWhole(value)).length;
    const fine = broken === 0 && kept.size === KEPT && ticks > 0 && rounds > 0;
    console.log(
      `verify ${fine ? "ok" : "BAD"} answers=${answers} ticks=${ticks} rounds=${rounds} broken=${broken}`,
    );
  });
}

function compute() {
  setInterval(() => {
    const numbers = Array.from({ length: 1000 }, (_, i) => i);
    parentPort?.postMessage(numbers.reduce((sum, one) => sum + one, 0));
  }, TICK_MS);
}

if (isMainThread) serve(Number(process.argv[2]));
else compute();

// A client process for the tests of client-process.ts: does what it is asked to do, by hand.
import { createInterface } from "node:readline";

/** @param {unknown} line */
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const { id, request } = JSON.parse(line);
    if (request === "slow") return;
    if (request === "die") {
      process.stderr.write("it hurts\n");
      process.exit(1);
    }
    if (request === "babble") process.stdout.write("no JSON\n");
    else if (request === "fail") say({ id, event: "error", message: "no such thing" });
    else {
      say({ id, event: "progress", done: 0.5 });
      say({ id, event: "result", result: { got: request, args: process.argv.slice(2) } });
    }
  })
  .on("close", () => process.exit(0));

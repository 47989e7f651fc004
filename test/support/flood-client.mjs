#!/usr/bin/env node
// `flood-client.mjs PORT HOST...`: sends datagrams to each host until a line comes on stdin: one of BATCH to its echo server, the
// others to a port at which nobody listens. Prints {"flooding":true} once the first has come back, and at the end {"sent","echoed"}.
import { createSocket } from "node:dgram";

const BATCH = 12;
const EVERY_MS = 20;
const NOBODYS_PORT = 9;
const [port, ...hosts] = process.argv.slice(2);
const data = Buffer.alloc(1200, 0x5a);
let sent = 0;
let echoed = 0;

const socket = createSocket("udp4");
socket.on("message", () => {
  if (echoed++ === 0) process.stdout.write('{"flooding":true}\n');
});
// A host whose echo server does not listen yet answers with an error.
socket.on("error", () => undefined);
const timer = setInterval(() => {
  for (const host of hosts)
    for (let i = 0; i < BATCH; i++)
      socket.send(data, i === 0 ? Number(port) : NOBODYS_PORT, host, (error) => {
        if (error === null) sent++;
      });
}, EVERY_MS);
process.stdin.once("data", () => {
  clearInterval(timer);
  process.stdout.write(`${JSON.stringify({ sent, echoed })}\n`, () => process.exit(0));
});

#!/usr/bin/env node
// `knock.mjs IPV4 IPV6`: sends a datagram to a closed port of both addresses every 20 ms, until stdin ends. Whichever kernel
// has the addresses answers: to ARP and neighbour solicitations, and that the port is closed, also for a frozen container. What was
// answered is forgotten twice a second: while a connection flows nobody would ask again.
import { execFile } from "node:child_process";
import { createSocket } from "node:dgram";

const CLOSED_PORT = 9;
const FORGET_MS = 500;
const [ipv4, ipv6] = process.argv.slice(2);
for (const [type, address] of /** @type {const} */ ([
  ["udp4", ipv4],
  ["udp6", ipv6],
])) {
  const socket = createSocket(type);
  // That nobody is there now and then is what this is about.
  socket.on("error", () => undefined);
  setInterval(() => socket.send("?", CLOSED_PORT, address, () => undefined), 20);
}
setInterval(() => {
  for (const address of [ipv4, ipv6])
    execFile("ip", ["neigh", "flush", "to", /** @type {string} */ (address)], (error) => {
      if (error !== null) process.stderr.write(`${error.message}\n`);
    });
}, FORGET_MS);
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
process.stdout.write("knocking\n");

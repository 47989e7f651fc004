#!/usr/bin/env node
// `drain-client.mjs HOST PORT BYTES`: connects to zerocopy (test/workloads/zerocopy.c) and reads nothing until a line comes on
// stdin; then all of it. Prints {"connected":true}, and at the end {"bytes","wrong"}: `wrong` is the first word that is not
// what it must be, or null. {"error"} when the connection ends early.
import { connect } from "node:net";

const [host, port, wanted] = process.argv.slice(2);
const bytes = Number(wanted);
const socket = connect(Number(port), host);
/** @type {Buffer[]} */
const parts = [];
let got = 0;

/** @param {object} verdict */
function end(verdict) {
  process.stdout.write(`${JSON.stringify(verdict)}\n`, () => process.exit(0));
}

function judge() {
  const all = Buffer.concat(parts);
  for (let at = 0; at < bytes; at += 4)
    if (all.readUInt32LE(at) !== Math.imul(at / 4, 0x9e3779b1) >>> 0)
      return end({ bytes: got, wrong: at / 4 });
  end({ bytes: got, wrong: null });
}

socket.on("connect", () => process.stdout.write('{"connected":true}\n'));
socket.on("error", (error) => end({ error: error.message }));
process.stdin.once("data", () => {
  socket.on("data", (data) => {
    parts.push(data);
    got += data.length;
    if (got >= bytes) judge();
  });
  socket.on("end", () => end({ error: `the server closed the connection after ${got} bytes` }));
});

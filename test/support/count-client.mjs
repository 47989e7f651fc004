#!/usr/bin/env node
// `count-client.mjs HOST PORT`: keeps one connection to tcpcount (test/workloads/tcpcount.c) open, sends "N" and waits for
// "N N" before it sends the next. Prints one JSON line and ends: {"answers","max_gap_ms","error"} — when stdin ends
// (error null), or as soon as an answer is not the one that must come, or the connection is lost.
import { connect } from "node:net";

const PAUSE_MS = 5;
const [host, port] = process.argv.slice(2);
const socket = connect(Number(port), host);
socket.setNoDelay(true);
socket.setEncoding("utf8");

let sent = 0;
let answers = 0;
let text = "";
let last = performance.now();
let maxGap = 0;
let asked = 0;

/** @param {string | null} error */
function end(error) {
  process.stdout.write(`${JSON.stringify({ answers, max_gap_ms: maxGap, error })}\n`, () => process.exit(0));
}

function send() {
  sent++;
  socket.write(`${sent}\n`);
}

socket.on("connect", () => {
  process.stdout.write('{"connected":true}\n');
  last = performance.now();
  send();
});
socket.on("data", (data) => {
  text += data;
  const lines = text.split("\n");
  text = lines.pop() ?? "";
  for (const line of lines) {
    if (line !== `${sent} ${sent}`) return end(`after ${answers} answers: sent ${sent}, got "${line}"`);
    answers++;
    maxGap = Math.max(maxGap, performance.now() - last);
    last = performance.now();
    for (; asked > 0; asked--) process.stdout.write(`${JSON.stringify({ next: answers })}\n`);
    setTimeout(send, PAUSE_MS);
  }
});
socket.on("error", (error) => end(error.message));
socket.on("end", () => end("the server closed the connection"));
process.stdin.setEncoding("utf8");
process.stdin.on("data", (data) => {
  asked += String(data).split("\n").length - 1;
});
process.stdin.on("end", () => end(null));

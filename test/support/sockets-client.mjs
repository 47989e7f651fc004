#!/usr/bin/env node
// `sockets-client.mjs IPV4 IPV6`: the client of test/workloads/sockets.c, which says what each port is for. It has connections of each
// shape by IPv4, by IPv6, and by IPv4 to a socket of IPv6, and knows of every byte whether it must come. It is told what to do by lines
// on stdin, and prints one JSON line when that is done: {"did":COMMAND, ...}, or {"bad":WHAT}.
import { createSocket } from "node:dgram";
import { connect } from "node:net";
import { createInterface } from "node:readline";

const [ipv4, ipv6] = process.argv.slice(2);
const FAMILIES = [
  { host: ipv4, base: 9000 },
  { host: ipv6, base: 9100 },
  { host: ipv4, base: 9200 },
];
const HELLO_BYTES = 4000;
const PARTING_BYTES = 150_000;
const PATIENCE_MS = 120_000;
/** What a client may have sent while it waits to be accepted, and whether it has also ended by then. */
const PENDING = [
  { bytes: 0, ended: false },
  { bytes: 10, ended: false },
  { bytes: 30_000, ended: true },
  // More than the kernel takes for a program that does not read.
  { bytes: 400_000, ended: false },
];

/** @param {object} line */
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
/** @param {string} what */
const bad = (what) => say({ bad: what });
/** @param {() => boolean} condition @param {string} what */
async function until(condition, what) {
  for (const end = performance.now() + PATIENCE_MS; !condition(); ) {
    if (performance.now() > end) return bad(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Bytes `from` to `to` of the stream of words 0, 1, 2, ... @param {number} from @param {number} to */
function piece(from, to) {
  const first = Math.floor(from / 8);
  const words = new BigUint64Array(Math.ceil(to / 8) - first);
  for (let i = 0; i < words.length; i++) words[i] = BigInt(first + i);
  return Buffer.from(words.buffer).subarray(from - first * 8, to - first * 8);
}

/** A connection whose bytes are counted in both directions. */
class Counted {
  sent = 0;
  got = 0;
  open = false;
  ended = false;
  flows = true;
  /** @type {{ in: number, out: number } | null} */
  trailer = null;
  #rest = Buffer.alloc(0);

  /** @param {string} name @param {string} host @param {number} port */
  constructor(name, host, port) {
    this.name = `${name} ${host}:${port}`;
    this.socket = connect({ host, port, allowHalfOpen: true, noDelay: true });
    this.socket.on("connect", () => {
      this.open = true;
    });
    this.socket.on("error", (error) => bad(`${this.name}: ${error.message}`));
    this.socket.on("data", (data) => this.#take(data));
    this.socket.on("end", () => {
      this.ended = true;
      if (this.#rest.length > 0) bad(`${this.name}: ended in the middle of a word`);
    });
  }

  /** @param {Buffer} data */
  #take(data) {
    const all = Buffer.concat([this.#rest, data]);
    let at = 0;
    for (; at + 8 <= all.length; at += 8) {
      const word = all.readBigUInt64LE(at);
      if (word === 0xffff_ffff_ffff_ffffn) {
        if (all.length < at + 24) break;
        this.trailer = { in: Number(all.readBigUInt64LE(at + 8)), out: Number(all.readBigUInt64LE(at + 16)) };
        at += 16;
        continue;
      }
      if (word !== BigInt(this.got / 8))
        bad(`${this.name}: word ${word} in the place of word ${this.got / 8}`);
      this.got += 8;
    }
    this.#rest = all.subarray(at);
  }

  /** @param {number} bytes */
  write(bytes) {
    this.socket.write(piece(this.sent, this.sent + bytes));
    this.sent += bytes;
  }

  /** As much as the kernel takes, and a little more. */
  fill() {
    while (this.socket.writableLength < 65_536) this.write(65_536);
  }

  /** All that went either way is accounted for by the other side. */
  async settle() {
    await until(() => this.ended, `the end of ${this.name}`);
    if (this.trailer?.in !== this.sent || this.trailer.out !== this.got)
      bad(
        `${this.name}: sent ${this.sent}, got ${this.got}; the other side says ${JSON.stringify(this.trailer)}`,
      );
    this.socket.end();
  }
}

/** Lines to a control port, each answered once, in order. */
class Control {
  answers = 0;
  /** @type {string[]} */
  #lines = [];

  /** @param {string} host @param {number} port */
  constructor(host, port) {
    this.name = `control ${host}:${port}`;
    this.socket = connect({ host, port, noDelay: true });
    this.socket.on("error", (error) => bad(`${this.name}: ${error.message}`));
    this.socket.on("end", () => bad(`${this.name}: ended`));
    createInterface({ input: this.socket }).on("line", (line) => this.#lines.push(line));
  }

  /** @param {string} line @returns {Promise<Record<string, number>>} */
  async ask(line) {
    this.socket.write(`${line}\n`);
    await until(() => this.#lines.length > 0, `an answer of ${this.name} to ${line}`);
    const answer = this.#lines.shift() ?? "";
    const numbers = Object.fromEntries(
      [...answer.matchAll(/(\w+)=(\d+)/g)].map(([, key, value]) => [key, Number(value)]),
    );
    if (!answer.startsWith(`${line} done=`)) bad(`${this.name}: asked ${line}, got ${answer}`);
    total++;
    if (numbers.bad !== 0) bad(`${this.name}: ${answer}`);
    if (numbers.n !== total) bad(`${this.name}: answer ${numbers.n} in the place of answer ${total}`);
    return numbers;
  }
}
/** Answers of all control connections; the server counts them together. */
let total = 0;

/** Datagrams to an echo and back, each exactly once, in their order. */
class Datagrams {
  sent = 0;
  back = 0;
  heard = 0;

  /** @param {string} host @param {number} port */
  constructor(host, port) {
    this.host = host;
    this.port = port;
    this.name = `datagrams ${host}:${port}`;
    this.socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    this.socket.on("message", (message, from) => {
      const number = Number(message.readBigUInt64LE(0));
      if (from.port !== port) {
        // From the connected socket, which was made for us.
        if (number !== this.heard++) bad(`${this.name}: heard ${number} in the place of ${this.heard - 1}`);
        this.socket.send(message, from.port, from.address);
      } else if (number !== this.back++)
        bad(`${this.name}: ${number} came back in the place of ${this.back - 1}`);
    });
  }

  /** @param {number} bytes */
  send(bytes) {
    const message = Buffer.alloc(bytes);
    message.writeBigUInt64LE(BigInt(this.sent++));
    this.socket.send(message, this.port, this.host);
  }

  /** @returns {Promise<number>} */
  async localPort() {
    await new Promise((resolve) => this.socket.bind(0, () => resolve(undefined)));
    return this.socket.address().port;
  }
}

/** @type {Control[]} */
const controls = [];
/** @type {Counted[]} */
const streams = [];
/** @type {Counted[]} */
const heirs = [];
/** @type {Counted[]} */
const mutes = [];
/** @type {Counted[]} */
let pending = [];
/** @type {Counted[]} */
let late = [];
/** @type {Counted[]} */
let parting = [];
/** @type {Datagrams[]} */
const datagrams = [];
let speakTo = 0;
let holding = false;

setInterval(() => {
  if (!holding)
    for (const stream of streams) if (stream.open && !stream.socket.writableEnded) stream.write(5_000);
}, 50);

/** @type {Record<string, () => Promise<object | void>>} */
const commands = {
  async open() {
    for (const { host, base } of FAMILIES) {
      controls.push(new Control(host, base));
      streams.push(new Counted("stream", host, base + 1));
      heirs.push(new Counted("heir", host, base + 2));
      mutes.push(new Counted("mute", host, base + 3));
      datagrams.push(new Datagrams(host, base + 6));
    }
    for (const heir of heirs) {
      heir.write(1234);
      heir.socket.end();
    }
    for (const mute of mutes) mute.write(77);
    await until(() => heirs.every(({ got }) => got > 0), "a word of each heir");
    await until(
      () => mutes.every(({ ended, got }) => ended && got === HELLO_BYTES),
      "the hello of each mute one",
    );
    speakTo = await /** @type {Datagrams} */ (datagrams[0]).localPort();
    await commands.check?.();
  },
  /** Connections that nobody accepts yet, some whose handshake the kernel leaves open, and some that were closed. */
  async wait() {
    await controls[0]?.ask("refuse");
    pending = FAMILIES.flatMap(({ host, base }) => PENDING.map(() => new Counted("pending", host, base + 4)));
    late = FAMILIES.map(({ host, base }) => new Counted("late", host, base + 5));
    parting = FAMILIES.map(({ host, base }) => new Counted("parting", host, base + 7));
    for (const { socket } of parting) socket.pause();
    await until(() => [...pending, ...late, ...parting].every(({ open }) => open), "connections to be made");
    for (const [i, one] of pending.entries()) {
      const { bytes, ended } = /** @type {typeof PENDING[0]} */ (PENDING[i % PENDING.length]);
      if (bytes > 0) one.write(bytes);
      if (ended) one.socket.end();
    }
  },
  /** Connections whose last word before they are made does not get there: one by each family speaks first, one is spoken to. */
  async knock() {
    await controls[0]?.ask("accept");
    pending = FAMILIES.map(({ host, base }) => new Counted("knocking", host, base + 4));
    const spoken = FAMILIES.map(({ host, base }) => new Counted("silent", host, base + 3));
    mutes.push(...spoken);
    await until(() => [...pending, ...spoken].every(({ open }) => open), "connections to be made");
    for (const one of pending) one.write(3_000);
  },
  /** They are made in the end. */
  async enter() {
    const silent = mutes.slice(-FAMILIES.length);
    await until(
      () => silent.every(({ got, ended }) => got === HELLO_BYTES && ended),
      "silent ones to be spoken to",
    );
    for (const one of pending) one.socket.end();
    for (const one of pending) await one.settle();
    return { settled: pending.length + silent.length };
  },
  /** Now they are accepted, say the rest, and are told what came. */
  async accept() {
    for (const one of late) one.write(500);
    await until(() => late.every(({ socket }) => socket.writableLength === 0), "late ones to speak");
    // The kernel makes their connections when what they say has come.
    await controls[0]?.ask("accept");
    for (const one of [...pending, ...late]) {
      if (one.socket.writableEnded) continue;
      one.write(333);
      one.socket.end();
    }
    for (const one of [...pending, ...late]) await one.settle();
    for (const one of parting) {
      one.socket.resume();
      await until(() => one.ended, `the end of ${one.name}`);
      if (one.got !== PARTING_BYTES) bad(`${one.name}: got ${one.got}`);
      one.socket.end();
    }
    return { settled: pending.length + late.length + parting.length };
  },
  /** Nobody reads any more: every window fills. */
  async hold() {
    await controls[0]?.ask("hold");
    holding = true;
    for (const stream of streams) stream.socket.pause();
    for (const one of datagrams) for (const bytes of [8, 900, 3_000, 40]) one.send(bytes);
    for (let i = 0; i < 40; i++) {
      for (const stream of streams) stream.fill();
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    return { waiting: streams.map(({ socket }) => socket.writableLength) };
  },
  async release() {
    await controls[0]?.ask("release");
    holding = false;
    for (const stream of streams) stream.socket.resume();
    await until(() => streams.every(({ socket }) => socket.writableLength === 0), "the streams to flow");
    return commands.check?.();
  },
  /** Everything that is open works. */
  async check() {
    for (const control of controls) await control.ask("ping");
    const before = [...streams, ...heirs].map(({ got }) => got);
    await until(
      () => [...streams, ...heirs].every(({ got }, i) => got > /** @type {number} */ (before[i])),
      "words",
    );
    for (const mute of mutes) mute.write(9);
    for (const one of datagrams) one.send(100);
    await until(() => datagrams.every(({ sent, back }) => sent === back), "datagrams to come back");
    const heard = datagrams[0]?.heard ?? 0;
    await controls[0]?.ask(`speak ${speakTo}`);
    await until(() => (datagrams[0]?.heard ?? 0) === heard + 1, "a word of the connected socket");
    await new Promise((resolve) => setTimeout(resolve, 50));
    const answer = await controls[0]?.ask("heard");
    if (answer?.done !== 1) bad(`the connected socket heard ${answer?.done} answers`);
  },
  async end() {
    for (const stream of streams) stream.socket.end();
    await controls[0]?.ask("finish");
    for (const one of [...streams, ...heirs]) await one.settle();
    for (const mute of mutes) mute.socket.end();
    const want = mutes.reduce((sum, { sent }) => sum + sent, 0);
    let told = await controls[0]?.ask("mute");
    for (let i = 0; i < 100 && told?.done !== mutes.length; i++) told = await controls[0]?.ask("mute");
    if (told?.mute !== want || told?.done !== mutes.length)
      bad(`mute ones sent ${want}; the other side says ${JSON.stringify(told)}`);
    const sums = [...streams, ...heirs, ...mutes].map(({ name, sent, got }) => ({ name, sent, got }));
    return { answers: total, datagrams: datagrams.map(({ sent, back }) => ({ sent, back })), sums };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = commands[line];
  if (command === undefined) bad(`no command ${line}`);
  else say({ did: line, ...(await command()) });
}
process.exit(0);

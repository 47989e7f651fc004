// How one connection of application-client.mjs asks: for each protocol what an operation is, and whether its answer is the one that
// must come. Each is made for an open connection and keeps count of what was answered on it.
import { Agent, get } from "node:http";
import { connect } from "node:net";

/**
 * `operate` resolves with what is wrong with the answer, null when nothing is; it rejects when the connection is lost. `check` looks
 * at what was loaded before.
 * @typedef {{ operate(): Promise<string | null>, check(): Promise<string[]>, close(): void }} Asking
 */

const nothing = () => undefined;

/** A connection on which whole answers are awaited, one at a time. */
class Talk {
  /** @param {import("node:net").Socket} socket */
  constructor(socket) {
    this.socket = socket;
    this.text = "";
    this.error = /** @type {Error | null} */ (null);
    this.wake = /** @type {() => void} */ (nothing);
    socket.setNoDelay(true);
    socket.setEncoding("latin1");
    socket.on("data", (data) => {
      this.text += data;
      this.wake();
    });
    socket.on("error", (error) => this.#fail(error));
    socket.on("close", () => this.#fail(new Error("the server closed the connection")));
  }

  /** @param {string} host @param {number} port @returns {Promise<Talk>} */
  static open(host, port) {
    return new Promise((resolve, reject) => {
      const socket = connect(port, host, () => resolve(new Talk(socket)));
      socket.once("error", reject);
    });
  }

  /** Sends `question` and gives what comes up to and with `end`. @param {string} question @param {string} end @returns {Promise<string>} */
  ask(question, end) {
    this.socket.write(question);
    return new Promise((resolve, reject) => {
      this.wake = () => {
        const at = this.text.indexOf(end);
        if (this.error !== null) return reject(this.error);
        if (at < 0) return;
        const answer = this.text.slice(0, at + end.length);
        this.text = this.text.slice(at + end.length);
        this.wake = nothing;
        resolve(answer);
      };
      this.wake();
    });
  }

  close() {
    this.socket.destroy();
  }

  /** @param {Error} error */
  #fail(error) {
    this.error ??= error;
    this.wake();
  }
}

/** @param {string} got @param {string} wanted */
const differs = (got, wanted) =>
  got === wanted
    ? null
    : `got ${JSON.stringify(got.slice(0, 80))}, not ${JSON.stringify(wanted.slice(0, 80))}`;

/** tcpcount's protocol: "N" is answered with "N N". @param {Target} target @returns {Promise<Asking>} */
async function countLines({ host, port }) {
  const talk = await Talk.open(host, port);
  let sent = 0;
  return {
    operate: async () => {
      sent++;
      return differs(await talk.ask(`${sent}\n`, "\n"), `${sent} ${sent}\n`);
    },
    check: async () => [],
    close: () => talk.close(),
  };
}

const VALUES = 200;
/** @param {number} lane @param {number} key */
const makeValue = (lane, key) => `${lane}.${key}.`.repeat(100);

/** `incr` of a counter of the connection's own, each answer one more than the last, beside values that nobody changes. @param {Target} target @returns {Promise<Asking>} */
async function memcached({ host, port, lane }) {
  const talk = await Talk.open(host, port);
  let count = 0;
  /** @param {string} key @param {string} value */
  const store = async (key, value) => {
    const answer = await talk.ask(`set ${key} 0 0 ${value.length}\r\n${value}\r\n`, "\r\n");
    if (answer !== "STORED\r\n") throw new Error(`memcached did not store ${key}: ${answer}`);
  };
  await store(`count${lane}`, "0");
  for (let key = 0; key < VALUES; key++) await store(`value${lane}.${key}`, makeValue(lane, key));
  return {
    operate: async () => differs(await talk.ask(`incr count${lane} 1\r\n`, "\r\n"), `${++count}\r\n`),
    check: async () => {
      const wrong = [];
      for (let key = 0; key < VALUES; key++) {
        const value = makeValue(lane, key);
        const wanted = `VALUE value${lane}.${key} 0 ${value.length}\r\n${value}\r\nEND\r\n`;
        wrong.push(differs(await talk.ask(`get value${lane}.${key}\r\n`, "END\r\n"), wanted));
      }
      return wrong.filter((one) => one !== null);
    },
    close: () => talk.close(),
  };
}

/** INCR of a counter of the connection's own, and a value at a key that grows with it. @param {Target} target @returns {Promise<Asking>} */
async function redis({ host, port, lane }) {
  const talk = await Talk.open(host, port);
  let count = 0;
  return {
    operate: async () => {
      const stored = await talk.ask(`SET ${lane}:${count % 1000} ${lane}:${count}\r\n`, "\r\n");
      if (stored !== "+OK\r\n") return differs(stored, "+OK\r\n");
      return differs(await talk.ask(`INCR count${lane}\r\n`, "\r\n"), `:${++count}\r\n`);
    },
    check: async () => {
      const value = `${lane}:${count - 1}`;
      const wanted = `$${value.length}\r\n${value}\r\n`;
      const got = await talk.ask(`GET ${lane}:${(count - 1) % 1000}\r\nECHO end\r\n`, "$3\r\nend\r\n");
      return [differs(got, `${wanted}$3\r\nend\r\n`)].filter((one) => one !== null);
    },
    close: () => talk.close(),
  };
}

/** @param {number} lines */
const page = (lines) => Array.from({ length: lines }, (_, i) => `line ${i} of ${lines}\n`).join("");

/** GET of a small file, and of a large one now and then, on one connection that stays open. @param {Target} target @returns {Promise<Asking>} */
async function http({ host, port }) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const small = page(10);
  const large = page(4000);
  let count = 0;
  return {
    operate: () =>
      new Promise((resolve, reject) => {
        const isLarge = ++count % 20 === 0;
        const request = get({ host, port, agent, path: isLarge ? "/large" : "/small" }, (response) => {
          let body = "";
          response.setEncoding("latin1");
          response.on("data", (data) => {
            body += data;
          });
          response.on("error", reject);
          response.on("end", () => {
            if (response.statusCode !== 200) resolve(`status ${response.statusCode}`);
            else if (count > 1 && !request.reusedSocket) resolve("another connection had to be opened");
            else resolve(differs(body, isLarge ? large : small));
          });
        });
        request.on("error", reject);
      }),
    check: async () => [],
    close: () => agent.destroy(),
  };
}

/** @typedef {{ host: string, port: number, lane: number }} Target */
export const protocols = { count: countLines, memcached, redis, http };

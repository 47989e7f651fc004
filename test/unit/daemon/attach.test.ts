/** What keeps somebody attached while the container moves: what was typed, and where the log was. */
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { AttachedLog } from "../../../src/daemon/attached-log.js";
import { Typed } from "../../../src/daemon/typed.js";
import { TerminalFrameReader, typedFrames, windowFrame } from "../../../src/protocol/terminal.js";

describe("what is typed", () => {
  /** A source that gives what is pushed, until it is ended. */
  function keyboard() {
    const waiting: Uint8Array[] = [];
    let ended = false;
    async function* source(): AsyncGenerator<Uint8Array> {
      while (!ended || waiting.length > 0) {
        const next = waiting.shift();
        if (next === undefined) await turn();
        else yield next;
      }
    }
    return {
      source: source(),
      type: (text: string) => waiting.push(...typedFrames(Buffer.from(text))),
      window: (rows: number) => waiting.push(windowFrame({ rows, columns: 80 })),
      end: () => {
        ended = true;
      },
    };
  }
  /** Reads what goes to one shim. */
  function shim(typed: Typed) {
    const heard: string[] = [];
    const stop = new AbortController();
    const reading = (async () => {
      const frames = new TerminalFrameReader();
      for await (const data of typed.frames(stop.signal))
        for (const { kind, bytes } of frames.push(data))
          heard.push(kind === "w" ? `rows ${bytes.readUInt16LE(0)}` : bytes.toString());
    })();
    return {
      heard,
      leave: async () => {
        stop.abort();
        await reading;
      },
    };
  }
  const some = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await turn();
  };

  it("goes to the next shim from the first piece on that the last one did not take, and the window's size before it", async () => {
    const typed = new Typed();
    const keys = keyboard();
    const read = typed.read(keys.source);
    const first = shim(typed);
    for (const text of ["one", "two", "three"]) keys.type(text);
    keys.window(30);
    await some();
    expect(first.heard.filter((item) => !item.startsWith("rows"))).toEqual(["one", "two", "three"]);
    typed.taken(3);
    await first.leave();
    const second = shim(typed);
    keys.type("four");
    await some();
    expect(second.heard).toEqual(["rows 30", "two", "three", "four"]);
    typed.taken(3 + 5);
    await second.leave();
    const third = shim(typed);
    keys.end();
    await read;
    await some();
    expect(third.heard).toEqual(["rows 30", "four"]);
    await third.leave();
  });

  it("waits at its source while nobody takes it", async () => {
    const typed = new Typed();
    const keys = keyboard();
    let read = 0;
    async function* counted(): AsyncGenerator<Uint8Array> {
      for await (const data of keys.source) {
        read++;
        yield data;
      }
    }
    const reading = typed.read(counted());
    for (let i = 0; i < 1000; i++) keys.type("x");
    for (let i = 0; i < 10; i++) await some();
    expect(read).toBeLessThan(100);
    typed.end();
    keys.end();
    await reading;
  });
});

describe("a log that somebody is attached to", () => {
  const time = "2026-01-01T00:00:00.000000000Z";

  it("is what was written, byte for byte, wherever the pieces of it are cut", () => {
    const log = Buffer.from(
      `${time} stdout F one\r\n${time} stdout P tw\n${time} stderr F oops\n${time} stdout F o\n${time} stdout P \n`,
    );
    for (let at = 0; at <= log.length; at++) {
      const read = new AttachedLog(100);
      const said = [...read.push(log.subarray(0, at)), ...read.push(log.subarray(at))];
      const of = (fd: number) =>
        said.flatMap((one) => (one.fd === fd ? [one.bytes.toString()] : [])).join("");
      expect(of(1)).toBe("one\r\ntwo\n");
      expect(of(2)).toBe("oops\n");
      expect(read.position).toBe(100 + log.length);
    }
  });

  it("goes on at the line that was cut when the connection ended", () => {
    const read = new AttachedLog(0);
    const line = `${time} stdout F one\n`;
    expect(read.push(Buffer.from(`${line}${time} stdo`))).toHaveLength(1);
    expect(read.position).toBe(line.length);
  });
});

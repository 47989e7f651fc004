import { open } from "node:fs/promises";
import path from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Connection, ConnectionLost } from "../../../src/bench/applications/application.js";
import {
  ANSWER_BYTES,
  AnswerParser,
  encodeRequest,
  MemoryApplication,
  type TouchAnswer,
} from "../../../src/bench/applications/memory.js";
import { type LineProcess, startLines } from "../../support/lines.js";
import { projectRoot } from "../../support/mwarp.js";

const PORT = 47_126;
const PAGE_BYTES = 4096;

describe("the framing of the memory-bound program", () => {
  it("gives the same answers however the bytes are cut into packets", () => {
    const word = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
    const answer = fc.record({ token: word, requests: word, touches: word, wrong: word });
    const cuts = fc.array(fc.nat(100), { minLength: 1 });
    fc.assert(
      fc.property(fc.array(answer, { maxLength: 5 }), cuts, (answers, lengths) => {
        const bytes = Buffer.alloc(answers.length * ANSWER_BYTES);
        for (const [i, one] of answers.entries())
          for (const [j, value] of [one.token, one.requests, one.touches, one.wrong].entries())
            bytes.writeBigUInt64LE(value, i * ANSWER_BYTES + j * 8);
        const parser = new AnswerParser();
        const got: TouchAnswer[] = [];
        for (let at = 0, cut = 0; at < bytes.length; cut++) {
          const end = at + lengths[cut % lengths.length] + 1;
          got.push(...parser.push(bytes.subarray(at, end)));
          at = end;
        }
        expect(got).toEqual(answers);
      }),
    );
  });

  it("has requests of three little-endian words", () => {
    expect(encodeRequest(1n, 0x203, 0xffn).toString("hex")).toBe(
      "0100000000000000" + "0302000000000000" + "ff00000000000000",
    );
  });
});

describe("the memory-bound program", () => {
  const application = new MemoryApplication({
    application: "memory",
    host: "127.0.0.1",
    port: PORT,
    connections: 2,
    bytes: 16 << 20,
  });
  let program: LineProcess;
  /** Address of its memory. */
  let start: number;
  let connection: Connection;

  beforeAll(async () => {
    const file = path.join(projectRoot, "dist/native/mwarp-bench-touch");
    program = await startLines([file, String(PORT), "16"]);
    const [, pages, at] = await program.waitFor(/ready pages=(\d+) at=0x([0-9a-f]+)/);
    expect(Number(pages)).toBe(4096);
    start = Number.parseInt(at, 16);
    connection = await application.connect();
  });
  afterAll(async () => {
    connection.close();
    await program[Symbol.asyncDispose]();
  });

  it("finds nothing wrong with its memory while it works, over several connections", async () => {
    const other = await application.connect();
    for (let i = 0; i < 50; i++)
      expect(await Promise.all([connection.operate(), other.operate()])).toEqual([0, 0]);
    expect(await application.check()).toBe(0);
    other.close();
  });

  it("finds a page in another's place", async () => {
    const page = Buffer.alloc(PAGE_BYTES);
    const memory = await open(`/proc/${program.pid}/mem`, "r+");
    const [first, second] = [start + 300 * PAGE_BYTES, start + 700 * PAGE_BYTES];
    const kept = Buffer.alloc(PAGE_BYTES);
    await memory.read(kept, 0, PAGE_BYTES, first);
    await memory.read(page, 0, PAGE_BYTES, second);
    // All but the count, so that nothing but the page's contents can show it.
    kept.copy(page, 8, 8, 16);
    await memory.write(page, 0, PAGE_BYTES, first);
    expect(await application.check()).toBe(1);
    await memory.write(kept, 0, PAGE_BYTES, first);
    await memory.close();
    expect(await application.check()).toBe(0);
  });

  it("finds that a page is of an earlier time", async () => {
    const memory = await open(`/proc/${program.pid}/mem`, "r+");
    const old = Buffer.alloc(PAGE_BYTES * 4096);
    await memory.read(old, 0, old.length, start);
    expect(await connection.operate()).toBe(0);
    await memory.write(old, 0, old.length, start);
    await memory.close();
    expect(await application.check()).toBe(1);
  });

  it("has an operation under way rejected when its connection is closed", async () => {
    const other = await application.connect();
    const operation = other.operate();
    other.close();
    await expect(operation).rejects.toThrow(ConnectionLost);
    await expect(other.operate()).rejects.toThrow(ConnectionLost);
  });
});

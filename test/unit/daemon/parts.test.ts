import { spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { httpStatus } from "../../../src/daemon/errors.js";
import { HISTORY_LIMIT, History } from "../../../src/daemon/history.js";
import { tryLock } from "../../../src/daemon/lock.js";
import { ContainerLocks } from "../../../src/daemon/locks.js";
import { EventQueue } from "../../../src/daemon/queue.js";
import { pick } from "../../../src/daemon/resolve.js";
import { errorCodes, MwarpError } from "../../../src/errors.js";
import type { MigrationRecord } from "../../../src/protocol/api.js";
import { decodeLines, encodeLine, MAX_LINE_BYTES, splitLines } from "../../../src/protocol/ndjson.js";
import { heldBytes } from "../../support/held-bytes.js";
import { record, silentLog } from "./fakes.js";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "mwarp-test-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

describe("the daemon's lock", () => {
  const flock = (file: string): number | null => spawnSync("flock", ["--nonblock", file, "true"]).status;

  it("keeps other processes out until it is given back", () => {
    const file = path.join(directory, "lock");
    const lock = tryLock(file);
    expect(lock).not.toBeNull();
    expect(flock(file)).toBe(1);
    expect(tryLock(file)).toBeNull();
    lock![Symbol.dispose]();
    expect(existsSync(file)).toBe(false);
    expect(flock(file)).toBe(0);
  });

  it("is not taken on a file that another daemon has removed meanwhile", () => {
    const file = path.join(directory, "lock");
    const stale = openSync(file, "a");
    rmSync(file);
    using lock = tryLock(file)!;
    // The old file is locked by somebody who opened it in time; the one of that name is ours.
    expect(flock(`/proc/${process.pid}/fd/${stale}`)).toBe(0);
    expect(lock).not.toBeNull();
    expect(flock(file)).toBe(1);
    closeSync(stale);
  });

  it("is not kept by children that outlive the daemon", () => {
    const file = path.join(directory, "lock");
    const lock = tryLock(file)!;
    const child = spawnSync("sh", ["-c", "sleep 2 >/dev/null 2>&1 & echo $!"], { encoding: "utf8" });
    lock[Symbol.dispose]();
    expect(flock(file)).toBe(0);
    process.kill(Number(child.stdout));
  });
});

describe("container locks", () => {
  it("say who holds the container and for how long", () => {
    let now = 1000;
    const locks = new ContainerLocks(() => now);
    const lock = locks.take("web", { what: "migration to vm-b" });
    now += 2500;
    expect(() => locks.take("web", { what: "rm" })).toThrow(
      'container "web" is busy: migration to vm-b, for 2.5 s',
    );
    expect(() => locks.take("db", { what: "rm" })).not.toThrow();
    lock[Symbol.dispose]();
    locks.take("web", { what: "rm" });
    // Giving the first one back again must not free the second.
    lock[Symbol.dispose]();
    expect(() => locks.take("web", { what: "run" })).toThrow("busy: rm");
  });
});

describe("picking by name or id prefix", () => {
  const items = [
    { name: "web", id: "aaaa1111" },
    { name: "aaaa", id: "bbbb2222" },
    { name: "db", id: "bbbb3333" },
  ];
  const keys = { name: (item: { name: string }) => item.name, id: (item: { id: string }) => item.id };

  it("prefers a whole name to an id that begins with it", () => {
    expect(pick(items, "aaaa", keys)?.id).toBe("bbbb2222");
  });
  it("takes a prefix of at least four characters that fits one id", () => {
    expect(pick(items, "aaaa1", keys)?.name).toBe("web");
    expect(pick(items, "aaa", keys)).toBeUndefined();
  });
  it("names the candidates when a prefix fits several", () => {
    expect(() => pick(items, "bbbb", keys)).toThrow('"bbbb" fits 2 ids');
  });
});

describe("the event queue", () => {
  it("makes a fast writer wait for its reader, and loses nothing", async () => {
    const queue = new EventQueue<number>();
    let written = 0;
    const writer = (async () => {
      for (let item = 0; item < 100; item++) {
        await queue.push(item);
        written = item + 1;
      }
      queue.end();
    })();
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(written).toBeLessThan(20);
    const read: number[] = [];
    for await (const item of queue) read.push(item);
    await writer;
    expect(read).toEqual(Array.from({ length: 100 }, (_, index) => index));
  });

  it("hands out what waits before its error", async () => {
    const queue = new EventQueue<number>();
    queue.add(1);
    queue.fail(new Error("broken"));
    const read: number[] = [];
    const reading = (async () => {
      for await (const item of queue) read.push(item);
    })();
    await expect(reading).rejects.toThrow("broken");
    expect(read).toEqual([1]);
  });

  it("lets writers go when the reader leaves", async () => {
    const queue = new EventQueue<number>();
    queue.add(1);
    for await (const item of queue) if (item === 1) break;
    await Promise.all(Array.from({ length: 50 }, (_, index) => queue.push(index)));
  });
});

describe("NDJSON", () => {
  async function* pieces(data: Buffer, size: number): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
  }
  async function decode(data: Buffer, size: number): Promise<unknown[]> {
    const all: unknown[] = [];
    for await (const item of decodeLines(pieces(data, size))) all.push(item);
    return all;
  }

  it("decodes the same whatever the pieces, also with characters cut in two", async () => {
    const values = [{ text: "größe ✓" }, [1, 2], "", null];
    const data = Buffer.concat(values.map(encodeLine));
    for (const size of [1, 2, 3, 7, data.length]) expect(await decode(data, size)).toEqual(values);
  });
  it("takes a last line without its newline", async () => {
    expect(await decode(Buffer.from("1\n2"), 1)).toEqual([1, 2]);
  });
  it("refuses a line without end instead of filling memory", async () => {
    await expect(decode(Buffer.alloc(MAX_LINE_BYTES + 2, 0x20), 1 << 20)).rejects.toThrow("longer than");
  });
  it("holds a line that comes byte by byte without a buffer for each byte", async () => {
    const line = Buffer.alloc(100_000, 0x31);
    const before = await heldBytes();
    let held = 0;
    async function* slowly(): AsyncGenerator<Uint8Array> {
      yield* pieces(line, 1);
      held = (await heldBytes()) - before;
    }
    const lines: Buffer[] = [];
    for await (const whole of splitLines(slowly())) lines.push(whole);
    expect(lines.map((whole) => whole.equals(line))).toEqual([true]);
    expect(held).toBeLessThan(40 * line.length);
  });
});

describe("history", () => {
  const at = (id: string, changes: Partial<MigrationRecord> = {}): MigrationRecord =>
    record(id, { startedAt: `2026-01-01T00:00:${id.slice(-2)}.000Z`, ...changes });

  it("comes back in order of time, and skips what cannot be read", () => {
    const first = new History(directory, silentLog);
    first.save(at("m-02"));
    first.save(at("m-01"));
    writeFileSync(path.join(directory, "m-03.json"), '{"half":');
    const warned: string[] = [];
    const log = { ...silentLog, warn: (_fields: object, message: string) => warned.push(message) };
    expect(new History(directory, log).list().map(({ id }) => id)).toEqual(["m-01", "m-02"]);
    expect(warned).toHaveLength(1);
  });

  it("drops the oldest beyond its limit, but none that still needs recovery", () => {
    const history = new History(directory, silentLog);
    history.save(at("open-00", { state: "interrupted" }));
    for (let index = 0; index < HISTORY_LIMIT; index++) history.save(at(`m-${index}`));
    const ids = history.list().map(({ id }) => id);
    expect(ids).toHaveLength(HISTORY_LIMIT);
    expect(ids.slice(0, 2)).toEqual(["open-00", "m-1"]);
  });
});

describe("HTTP status", () => {
  it("is an error status for every error code", () => {
    for (const code of errorCodes) expect(httpStatus(new MwarpError(code, ""))).toBeGreaterThanOrEqual(400);
  });
});

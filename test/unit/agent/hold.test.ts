/** Who keeps image files mapped (native/guest/hold.c), as it runs here: on this machine's tmpfs. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PAGE_BYTES } from "../../../src/units.js";

const PROGRAM = "dist/native/mwarp-guest";
const ADDRESS = 2 ** 45;
const errno = { EEXIST: -17, EINVAL: -22, ENOENT: -2, ESTALE: -116 };

describe("the process that holds image files", () => {
  let folder: string;
  let child: ChildProcessByStdio<Writable, Readable, null>;
  let answers: AsyncIterator<string>;
  beforeEach(() => {
    folder = mkdtempSync("/dev/shm/mwt-hold-");
    child = spawn(PROGRAM, ["hold"], { stdio: ["pipe", "pipe", "inherit"] });
    answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  });
  afterEach(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.stdin.end();
      await once(child, "exit");
    }
    rmSync(folder, { recursive: true });
  });

  const file = (name: string): string => path.join(folder, name);
  async function ask(line: string): Promise<number> {
    child.stdin.write(`${line}\n`);
    return Number((await answers.next()).value);
  }
  /** The lines of /proc/PID/smaps of the mapping at an address. */
  function mapping(address: number): string {
    const maps = readFileSync(`/proc/${child.pid}/smaps`, "utf8");
    const from = maps.indexOf(`${address.toString(16)}-`);
    return maps.slice(from, maps.indexOf("VmFlags", from));
  }
  const kib = (text: string, field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(text)?.[1]);

  it("makes a file, every page of which it has written to, and keeps it in memory", async () => {
    const bytes = 300 * PAGE_BYTES + 17;
    expect(await ask(`make ${ADDRESS} ${bytes} ${file("new")}`)).toBe(0);
    expect(statSync(file("new")).size).toBe(bytes);
    const held = mapping(ADDRESS);
    expect(held).toContain("rw-s");
    for (const field of ["Rss", "Private_Dirty", "Locked"]) expect(kib(held, field), field).toBe(301 * 4);
    expect(readFileSync(file("new")).every((byte) => byte === 0)).toBe(true);
  });

  it("maps a file that is there, all of it, and does not write to it", async () => {
    const contents = Buffer.alloc(5 * PAGE_BYTES + 1, 7);
    writeFileSync(file("old"), contents);
    expect(await ask(`read ${ADDRESS} ${contents.length} ${file("old")}`)).toBe(0);
    const held = mapping(ADDRESS);
    expect(held).toContain("r--s");
    expect(kib(held, "Rss")).toBe(6 * 4);
    expect(readFileSync(file("old")).equals(contents)).toBe(true);
  });

  it("holds several, and refuses by name of the error what it cannot hold", async () => {
    writeFileSync(file("old"), Buffer.alloc(PAGE_BYTES));
    expect(await ask(`read ${ADDRESS} ${PAGE_BYTES} ${file("old")}`)).toBe(0);
    expect(await ask(`make ${ADDRESS} ${PAGE_BYTES} ${file("there")}`), "where another is").toBe(
      errno.EEXIST,
    );
    expect(() => statSync(file("there")), "nothing is left of it").toThrow();
    expect(await ask(`make ${ADDRESS + PAGE_BYTES} ${PAGE_BYTES} ${file("old")}`)).toBe(errno.EEXIST);
    expect(await ask(`read ${ADDRESS + PAGE_BYTES} 1 ${file("old")}`), "of another length").toBe(
      errno.ESTALE,
    );
    expect(await ask(`read ${ADDRESS + PAGE_BYTES} 1 ${file("none")}`)).toBe(errno.ENOENT);
    expect(await ask(`read ${ADDRESS + PAGE_BYTES} 0 ${file("old")}`)).toBe(errno.EINVAL);
    expect(await ask("nonsense")).toBe(errno.EINVAL);
    expect(await ask(`make ${ADDRESS + PAGE_BYTES} ${PAGE_BYTES} ${file("with a space")}`)).toBe(0);
    expect(statSync(file("with a space")).size).toBe(PAGE_BYTES);
  });

  it("ends with its standard input", async () => {
    child.stdin.end();
    expect(await once(child, "exit")).toEqual([0, null]);
  });
});

/** When the journal's calls return: after the record is on disk, or never. Every call into the file system is seen. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { exchangeFile, Journal, readJournal } from "../../../src/migration/journal.js";
import type { State } from "../../../src/migration/states.js";
import { journalHead } from "../../support/requests.js";

type Fs = typeof import("node:fs");

/** What was done to which file, and what was in it then. */
interface Call {
  readonly what: "write" | "fdatasync" | "fsync";
  readonly file: string;
  readonly contents: string;
}
const seen = vi.hoisted(() => ({
  calls: [] as Call[],
  files: new Map<number, string>(),
  /** The next of these calls fails. */
  failing: null as "write" | "fdatasync" | null,
}));

vi.mock("node:fs", async (importOriginal) => {
  const fs = await importOriginal<Fs>();
  const note = (what: Call["what"], fd: number): void => {
    const file = seen.files.get(fd) ?? "";
    const contents = what === "fsync" ? "" : fs.readFileSync(file, "utf8");
    seen.calls.push({ what, file: path.basename(file), contents });
    if (seen.failing !== what) return;
    seen.failing = null;
    throw Object.assign(new Error(`${what}: EIO`), { code: "EIO" });
  };
  return {
    ...fs,
    openSync: (...args: Parameters<Fs["openSync"]>): number => {
      const fd = fs.openSync(...args);
      seen.files.set(fd, String(args[0]));
      return fd;
    },
    writeSync: (fd: number, bytes: Uint8Array): number => {
      const written = fs.writeSync(fd, bytes);
      note("write", fd);
      return written;
    },
    fdatasyncSync: (fd: number): void => {
      fs.fdatasyncSync(fd);
      note("fdatasync", fd);
    },
    fsyncSync: (fd: number): void => {
      fs.fsyncSync(fd);
      note("fsync", fd);
    },
  };
});

const head = { ...journalHead, method: "warp" } as const;
const order = (): string[] => seen.calls.map(({ what, file }) => `${what} ${file}`);
let directory: string;
let file: string;
let journal: Journal;

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "mwarp-durability-"));
  file = path.join(directory, "migrations", "m-1", "journal");
  seen.calls.length = 0;
  journal = Journal.create(file, head);
});
afterEach(() => {
  journal.close();
  rmSync(directory, { recursive: true });
});

describe("a record of the journal is on disk before anyone acts on it:", () => {
  it("the head, and with it the file's name and its directory's", () => {
    expect(order()).toEqual(["write journal", "fdatasync journal", "fsync m-1", "fsync migrations"]);
  });

  const toTheEnd: readonly State[] = [
    "prepared",
    "frozen",
    "dumped",
    "transferred",
    "held",
    "populated",
    "committed",
    "resumed",
    "retired",
  ];
  const acts: [string, (() => void)[], string][] = [
    ["each begin", [() => journal.begin("prepare"), () => journal.begin("freeze", [])], '"kind":"begin"'],
    ["each state up to the end", toTheEnd.map((state) => () => journal.enter(state)), '"kind":"state"'],
    [
      "a rollback's states",
      [() => journal.enter("aborting", "why"), () => journal.enter("aborted")],
      '"kind":"state"',
    ],
  ];
  for (const [title, calls, kind] of acts) {
    it(title, () => {
      for (const call of calls) {
        const before = readFileSync(file, "utf8");
        seen.calls.length = 0;
        call();
        const after = readFileSync(file, "utf8");
        expect(order()).toEqual(["write journal", "fdatasync journal"]);
        expect(after.slice(before.length)).toContain(kind);
        expect(seen.calls[1]!.contents).toBe(after);
      }
    });
  }

  it("an exchange, and before it the record of what is exchanged", () => {
    seen.calls.length = 0;
    journal.beginExchange(Buffer.from("which frames"));
    expect(order()).toEqual([
      "write journal.exchange",
      "fdatasync journal.exchange",
      "write journal",
      "fdatasync journal",
    ]);
    expect(seen.calls[1]!.contents).toBe("which frames");
    expect(seen.calls[1]!.file).toBe(path.basename(exchangeFile(file)));
    expect(seen.calls[3]!.contents).toContain('"kind":"exchange"');
  });

  for (const failing of ["write", "fdatasync"] as const) {
    it(`one whose ${failing} fails is not in the journal, and the call says so`, () => {
      const before = readFileSync(file, "utf8");
      for (const call of [
        () => journal.begin("prepare"),
        () => journal.enter("prepared"),
        () => journal.beginExchange(Buffer.from("x")),
      ]) {
        seen.failing = failing;
        expect(call).toThrow(/EIO/);
        expect(readFileSync(file, "utf8")).toBe(before);
      }
      expect(journal.state).toBe("started");
      journal.enter("aborting");
      expect(readJournal(file)?.state).toBe("aborting");
    });
  }
});

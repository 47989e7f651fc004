/**
 * What changes between the two passes over a container's files, case by case. Each move ends with a comparison of everything that can be
 * said of the files on both sides; see test/support/files-on-host.ts.
 */
import { execFileSync } from "node:child_process";
import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { FilesOnHost } from "../../support/files-on-host.js";
import { startLines } from "../../support/lines.js";
import { projectRoot } from "../../support/mwarp.js";

const LARGE = 4 * 1024 * 1024;
/** Where the large file has a hole of a page, and then a page of zeros. */
const ZEROS = 1 << 20;
/** A tar without content, and what it has of a directory or two with their attributes. */
const SMALL = 40_000;

/** What has changed in the tick of the clock in which it is looked at would be sent again. */
const settle = (): Promise<void> => sleep(50);

/** Some files in the writable layer, as old as any. */
async function prepared(): Promise<FilesOnHost> {
  const files = new FilesOnHost();
  const { made } = files;
  for (const name of ["a", "b", "a/in"]) mkdirSync(path.join(made, name));
  writeFileSync(path.join(made, "a/large"), Buffer.alloc(LARGE, "large"));
  const zeros = openSync(path.join(made, "a/large"), "r+");
  writeSync(zeros, Buffer.alloc(4096), 0, 4096, ZEROS + 4096);
  closeSync(zeros);
  punch(path.join(made, "a/large"), ZEROS, 4096);
  writeFileSync(path.join(made, "a/small"), "small");
  writeFileSync(path.join(made, "a/in/deep"), "deep");
  linkSync(path.join(made, "a/small"), path.join(made, "b/also"));
  symlinkSync("nowhere", path.join(made, "b/link"));
  await settle();
  return files;
}

type Change = (made: (name: string) => string) => void;

const cases: readonly (readonly [what: string, change: Change])[] = [
  ["a file that was removed", (made) => rmSync(made("a/in/deep"))],
  ["a directory that was removed with all that is in it", (made) => rmSync(made("a"), { recursive: true })],
  ["a file in the place of another of the same length and time", (made) => replaceAlike(made("a/in/deep"))],
  ["a file whose contents changed and whose time was put back", (made) => rewriteAlike(made("a/in/deep"))],
  ["a name that was added to a file", (made) => linkSync(made("a/small"), made("b/third"))],
  ["a name that was taken from a file", (made) => rmSync(made("b/also"))],
  ["names that were exchanged", (made) => exchange(made("a/small"), made("a/in/deep"))],
  ["directories that were exchanged", (made) => exchange(made("a"), made("b"))],
  ["a file of which one name is in a directory that was renamed", (made) => renameSync(made("b"), made("c"))],
  ["a directory in the place of a file", (made) => toDirectory(made("a/in/deep"))],
  ["a directory in the place of a symbolic link", (made) => toDirectory(made("b/link"))],
  ["a symbolic link in the place of a directory", (made) => toLink(made("a/in"))],
  ["a file that became shorter", (made) => truncateSync(made("a/large"), 100_001)],
  ["a file that became longer by a hole", (made) => truncateSync(made("a/large"), 9_000_001)],
  ["a hole that was punched", (made) => punch(made("a/large"), 8192, 200_000)],
  ["a hole and zeros that changed places", (made) => swapZeros(made("a/large"))],
  ["a large file with another mode", (made) => execFileSync("chmod", ["4711", made("a/large")])],
  ["a large file with another owner", (made) => execFileSync("chown", ["7:8", made("a/large")])],
  ["a large file that has got a second name", (made) => linkSync(made("a/large"), made("b/large"))],
  ["a large file under another name", (made) => renameSync(made("a/large"), made("b/moved"))],
  ["another large file under the name", (made) => replaceLarge(made("a/large"))],
  ["a file of the lower layer that was removed", (made) => rmSync(made("one"))],
  [
    "a directory of the lower layer that was replaced",
    (made) => {
      rmSync(made("deep"), { recursive: true });
      mkdirSync(made("deep"));
    },
  ],
  ["a name that is no text", (made) => oddName(made("a"))],
  ["pipes and devices with two names", (made) => twoNames(made("b"), made("a"))],
  ["pipes and devices", (made) => special(made("b"))],
];

function replaceAlike(file: string): void {
  const { atime, mtime } = statSync(file);
  writeFileSync(`${file}.new`, "Deep");
  renameSync(`${file}.new`, file);
  utimesSync(file, atime, mtime);
}

function rewriteAlike(file: string): void {
  const { atime, mtime } = statSync(file);
  writeFileSync(file, "dEEp");
  utimesSync(file, atime, mtime);
}

function exchange(one: string, other: string): void {
  renameSync(one, `${one}.away`);
  renameSync(other, one);
  renameSync(`${one}.away`, other);
}

function toDirectory(name: string): void {
  rmSync(name);
  mkdirSync(name);
  writeFileSync(path.join(name, "file"), "in it");
}

function toLink(directory: string): void {
  rmSync(directory, { recursive: true });
  symlinkSync("../b", directory);
}

const punch = (file: string, from: number, bytes: number): void =>
  void execFileSync("fallocate", ["--punch-hole", "--offset", String(from), "--length", String(bytes), file]);

/** Of two pages of zeros one holds data and the other is a hole, and the other way round. */
function swapZeros(file: string): void {
  punch(file, ZEROS + 4096, 4096);
  const fd = openSync(file, "r+");
  writeSync(fd, Buffer.alloc(4096), 0, 4096, ZEROS);
  closeSync(fd);
}

function replaceLarge(file: string): void {
  rmSync(file);
  writeFileSync(file, Buffer.alloc(LARGE + 5, "other"));
}

function oddName(directory: string): void {
  const name = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0xff, 0x0a, 0x22, 0x80])]);
  writeFileSync(name, "odd");
}

function special(directory: string): void {
  execFileSync("mkfifo", [path.join(directory, "pipe")]);
  execFileSync("mknod", [path.join(directory, "device"), "c", "1", "3"]);
}

function twoNames(one: string, other: string): void {
  special(one);
  for (const name of ["pipe", "device"]) linkSync(path.join(one, name), path.join(other, name));
}

describe("after the second pass the other side has", () => {
  it.each(cases)("%s", async (_what, change) => {
    await using files = await prepared();
    const { first } = await files.move(() => change((name) => path.join(files.made, name)));
    expect(first).toBeGreaterThan(LARGE);
  });
});

describe("what was written through a mapping, of which no time tells, is there", () => {
  // An overlay lets go of its own file when a mapping is made, another file system when it is gone.
  it.each([
    ["made", "is still mapped"],
    ["made", "was closed"],
    ["data", "is still mapped"],
    ["data", "was closed"],
  ] as const)("in %s, when it %s in the end", async (where, end) => {
    await using files = await prepared();
    const file = path.join(files[where], "mapped");
    writeFileSync(file, "before");
    await settle();
    await using program = await startLines([path.join(projectRoot, "dist/test/unseen"), file]);
    await program.waitFor(/ready/);
    files.addTask(program.pid);
    const { ctimeMs } = statSync(file);
    await files.move(async () => {
      program.send("write");
      await program.waitFor(/written/);
      if (end === "was closed") await program[Symbol.asyncDispose]();
      // Else it would prove nothing.
      expect(statSync(file).ctimeMs).toBe(ctimeMs);
    });
  });
});

it("a file is there that had another's name, with the directory it is in, while it was packed", async () => {
  await using files = await prepared();
  const at = (name: string): string => path.join(files.made, name);
  for (const name of ["one-of", "other-of"]) {
    mkdirSync(at(name));
    writeFileSync(at(`${name}/file`), name);
  }
  await settle();
  await files.move(() => undefined, "rest", {
    looked: () => exchange(at("one-of"), at("other-of")),
    packed: () => exchange(at("one-of"), at("other-of")),
  });
});

describe("the second pass", () => {
  it("sends nothing of files that are as they were, open for reading or not", async () => {
    await using files = await prepared();
    const fd = openSync(path.join(files.made, "a/large"), "r");
    const { rest } = await files.move(() => undefined);
    closeSync(fd);
    expect(rest).toBeLessThan(SMALL);
  });

  it("sends nothing again of a file but its names when a directory that one of them is in is renamed", async () => {
    await using files = await prepared();
    const { rest } = await files.move(() =>
      renameSync(path.join(files.made, "b"), path.join(files.made, "c")),
    );
    expect(rest).toBeLessThan(SMALL);
  });

  it("sends of a large file only the blocks that differ", async () => {
    await using files = await prepared();
    const { rest } = await files.move(() => {
      const fd = openSync(path.join(files.made, "a/large"), "r+");
      writeSync(fd, "here", 1_000_000);
      writeSync(fd, "and there", LARGE - 4);
      fsyncSync(fd);
      closeSync(fd);
    });
    expect(rest).toBeGreaterThan(128 * 1024);
    expect(rest).toBeLessThan(4 * 64 * 1024 + SMALL);
  });

  it.each([
    ["pattern", ["1", "small"], 0, SMALL],
    ["unixes", [], 400_000, 600_000],
  ] as const)(
    "takes any file to have changed where descriptors are on their way through a socket: %s",
    async (name, args, least, most) => {
      await using program = await startLines([path.join(projectRoot, "dist/test", name), ...args]);
      await program.waitFor(/ ready/);
      await using files = await prepared();
      for (let i = 0; i < 50; i++) writeFileSync(path.join(files.made, `b/${i}`), Buffer.alloc(8192, `${i}`));
      await settle();
      files.addTask(program.pid);
      const { rest } = await files.move(() => undefined);
      // Where this program has its files is not for us to say.
      for (const left of ["bound", "file", "listener"]) rmSync(`/tmp/unixes-${left}`, { force: true });
      expect(rest).toBeGreaterThan(least);
      expect(rest).toBeLessThan(most);
    },
  );

  it("sends all again, into what an earlier pass has left, when it is asked to", async () => {
    await using files = await prepared();
    const { rest } = await files.move(
      () => rmSync(path.join(files.made, "a/in"), { recursive: true }),
      "whole",
    );
    expect(rest).toBeGreaterThan(LARGE);
  });
});

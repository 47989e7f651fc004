import { execFileSync } from "node:child_process";
import { lstatSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { CpioArchive } from "../../../src/lab/cpio.js";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "mwarp-cpio-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const unpack = (archive: CpioArchive): void => {
  execFileSync("cpio", ["-i", "--quiet"], { cwd: directory, input: archive.toBuffer() });
};

test("what is packed comes out of cpio the same: contents, modes, links, of every alignment", () => {
  const archive = new CpioArchive().directory("empty", 0o700).symlink("a/link", "../target");
  const sizes = [0, 1, 2, 3, 4, 5, 4095, 70_000];
  for (const size of sizes)
    archive.file(`files/${"n".repeat((size % 5) + 1)}-${size}`, Buffer.alloc(size, size % 251), 0o755);
  unpack(archive);
  for (const size of sizes) {
    const path = join(directory, "files", `${"n".repeat((size % 5) + 1)}-${size}`);
    expect(readFileSync(path).equals(Buffer.alloc(size, size % 251))).toBe(true);
    expect(lstatSync(path).mode & 0o777).toBe(0o755);
  }
  expect(lstatSync(join(directory, "empty")).mode & 0o777).toBe(0o700);
  expect(readlinkSync(join(directory, "a/link"))).toBe("../target");
});

test("directories above a file are made once, before it", () => {
  const archive = new CpioArchive()
    .file("usr/local/bin/one", "1")
    .file("usr/local/bin/two", "2")
    .directory("usr");
  const names = execFileSync("cpio", ["-t", "--quiet"], { input: archive.toBuffer(), encoding: "utf8" })
    .trim()
    .split("\n");
  expect(names).toEqual(["usr", "usr/local", "usr/local/bin", "usr/local/bin/one", "usr/local/bin/two"]);
});

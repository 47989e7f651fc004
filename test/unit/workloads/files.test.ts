/** The oracle for files: it must find whatever is not as the program left it, or it proves nothing. */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type LineProcess, startLines } from "../../support/lines.js";
import { projectRoot } from "../../support/mwarp.js";

const program = (name: string): string => path.join(projectRoot, "dist/test", name);

let folder = "";
let files: LineProcess;

beforeEach(async () => {
  folder = mkdtempSync("/dev/shm/mwt-oracle-");
  mkdirSync(path.join(folder, "top"));
  files = await startLines(["env", "FILES_ALONE=1", program("files"), "3", "1", path.join(folder, "top")]);
  await files.waitFor(/files ready/, { timeoutMs: 30_000 });
  process.kill(files.pid, "SIGSTOP");
});

afterEach(async () => {
  await files[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

/** What the program finds when it goes on. */
async function verdict(): Promise<string> {
  const from = files.lines.length;
  process.kill(files.pid, "SIGUSR1");
  process.kill(files.pid, "SIGCONT");
  return (await files.waitFor(/^verify (ok|BAD.*)/, { from, timeoutMs: 30_000 }))[1];
}

/** A file that is there throughout. */
const special = (name: string): string => path.join(folder, "top/special", name);

const damages: readonly (readonly [what: string, damage: () => void, found: RegExp])[] = [
  ["nothing", () => undefined, /^ok/],
  ["a byte of a file", () => overwrite(special("appended")), /appended: (contents|time)/],
  ["a hole that was filled", () => fillHole(special("sparse")), /sparse: (blocks|contents)/],
  ["a mode", () => chmodSync(special("sparse"), 0o644), /sparse: mode/],
  ["a time", () => utimesSync(special("sparse"), 1, 1), /sparse: time/],
  ["a length", () => truncateSync(special("sparse"), 1 << 29), /sparse: size/],
  ["a name", () => renameSync(special("sparse"), special("other")), /sparse: presence/],
  ["a stranger", () => writeFileSync(special("stranger"), ""), /stranger: presence/],
  ["a link", () => linkSync(special("sparse"), path.join(folder, "link")), /sparse: links/],
];

function overwrite(file: string): void {
  const fd = openSync(file, "r+");
  writeSync(fd, "?", 0);
  closeSync(fd);
}

function fillHole(file: string): void {
  const fd = openSync(file, "r+");
  writeSync(fd, Buffer.alloc(4096), 0, 4096, 0);
  closeSync(fd);
}

describe("the program that watches its files finds", () => {
  it.each(damages)("%s", async (_what, damage, found) => {
    damage();
    expect(await verdict()).toMatch(found);
  });
});

it("the manifest of a tree tells it from one that is not the same", () => {
  const manifest = (): string => execFileSync(program("manifest"), [folder, "top"]).toString();
  const before = manifest();
  expect(before.split("\n").length).toBeGreaterThan(readdirSync(path.join(folder, "top")).length);
  expect(manifest()).toBe(before);
  linkSync(special("appended"), special("also"));
  expect(manifest()).toMatch(/special\/appended .* top\/special\/also$/m);
  for (const [, damage] of damages.slice(1, -1)) {
    const earlier = manifest();
    damage();
    expect(manifest()).not.toBe(earlier);
  }
});

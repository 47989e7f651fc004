#!/usr/bin/env node
// Refuses what no file of the tree may hold: more than 400 lines, a path of this machine, an npm registry's address.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const MAX_LINES = 400;
const top = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const list = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
  cwd: top,
  encoding: "utf8",
});
const files = list.split("\0").filter((file) => file !== "" && existsSync(path.join(top, file)));

const parent = path.dirname(top);
// A parent such as /tmp or /home is a word that files may use; one deeper or less common is this machine's own.
const common = ["/", "/tmp", "/home", "/root", "/srv", "/opt", "/var", "/usr/src", "/build", "/workspace"];
const machine = [`${top}/`, ...(common.includes(parent) ? [] : [`${parent}/`])];

/** @type {string[]} */
const problems = [];
for (const file of files) {
  const text = readFileSync(path.join(top, file), "utf8");
  if (text.includes("\0")) {
    problems.push(`${file}: binary; nothing built or downloaded belongs in the tree`);
    continue;
  }
  if (/\.(ts|mjs|[ch])$/.test(file) && !/(^|\/)gen\//.test(file)) {
    const lines = text.split("\n").length - 1;
    if (lines > MAX_LINES)
      problems.push(`${file}: ${lines} lines, the limit is ${MAX_LINES}: one job per file`);
  }
  for (const word of machine)
    if (text.includes(word)) problems.push(`${file}: holds a path of this machine: ${word}`);
  if (file === "package-lock.json" && text.includes('"resolved"')) {
    problems.push(
      `${file}: names a registry ("resolved"); npm install with the .npmrc of the tree leaves it out`,
    );
  }
}
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
console.log(`check-tree: ${files.length} files are in order`);

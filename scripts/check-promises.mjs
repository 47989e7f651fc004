#!/usr/bin/env node
// Each promise of SPECIFICATION.md names the tests that enforce it; this fails when one has none, or names one that does not exist.
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const top = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const text = readFileSync(path.join(top, "SPECIFICATION.md"), "utf8");
const promises = text.split(/^(?=\d+\. )/m).slice(1);

/** @type {string[]} */
const problems = [];
for (const [index, promise] of promises.entries()) {
  const number = Number.parseInt(promise, 10);
  if (number !== index + 1) problems.push(`promise ${number} stands where ${index + 1} belongs`);
  const tests = [...promise.matchAll(/`(test\/[\w./-]+)`/g)].map(([, file]) => file);
  if (tests.length === 0) problems.push(`promise ${number} names no test`);
  for (const file of tests)
    if (!existsSync(path.join(top, file))) problems.push(`promise ${number}: no ${file}`);
}
for (const problem of problems) console.error(`SPECIFICATION.md: ${problem}`);
if (problems.length > 0) process.exit(1);
console.log(`check-promises: ${promises.length} promises, each with its tests`);

#!/usr/bin/env node
// Runs the named vitest projects one after the other (`run-tests.mjs unit e2e [-- FILTER...]`) and ends with one plain line over all
// of them: "N passed, N failed". Exits 1 when anything failed. Reports lie in test-results/.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const top = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const results = path.join(top, "test-results");
const args = process.argv.slice(2);
const split = args.indexOf("--");
const projects = split < 0 ? args : args.slice(0, split);
const filters = split < 0 ? [] : args.slice(split + 1);

/** Enough of a failure to know its cause by: a command that fails says what happened after its first line. */
const EXCERPT_LINES = 15;
const excerpt = (text = "") =>
  text
    .split("\n")
    .filter((line) => !/^\s+at /.test(line))
    .slice(0, EXCERPT_LINES)
    .map((line) => line.slice(0, 300))
    .join("\n    ");

/** What passed and what failed of one project. A file that could not be loaded, or a crash of the runner, counts as one failure. @param {string} project */
function run(project) {
  const report = path.join(results, `${project}.json`);
  rmSync(report, { force: true });
  const runner = spawnSync(
    process.execPath,
    [
      path.join(top, "node_modules/vitest/vitest.mjs"),
      "run",
      `--project=${project}`,
      "--reporter=default",
      "--reporter=json",
      `--outputFile.json=${report}`,
      ...filters,
    ],
    { cwd: top, stdio: ["ignore", "inherit", "inherit"] },
  );
  if (!existsSync(report)) return { passed: 0, failures: [`${project}: the runner left no report`] };
  /** @type {{ numPassedTests: number, testResults: { name: string, status: string, message: string, assertionResults: { status: string, fullName: string, failureMessages: string[] }[] }[] }} */
  const json = JSON.parse(readFileSync(report, "utf8"));
  const unloaded = json.testResults.filter(
    (file) => file.status === "failed" && file.assertionResults.every((test) => test.status !== "failed"),
  );
  const failures = [
    ...unloaded.map((file) => `${path.relative(top, file.name)}: ${excerpt(file.message)}`),
    ...json.testResults.flatMap((file) =>
      file.assertionResults
        .filter((test) => test.status === "failed")
        .map(
          (test) => `${path.relative(top, file.name)}: ${test.fullName}: ${excerpt(test.failureMessages[0])}`,
        ),
    ),
  ];
  if (failures.length === 0 && runner.status !== 0)
    failures.push(`${project}: the runner ended with ${runner.status}`);
  return { passed: json.numPassedTests, failures };
}

mkdirSync(results, { recursive: true });
const sums = projects.map(run);
const passed = sums.reduce((sum, one) => sum + one.passed, 0);
const failures = sums.flatMap((one) => one.failures);
// Once more, and last, because the end of a long log is what people are shown.
for (const failure of failures) console.log(`FAILED ${failure}`);
console.log(`${passed} passed, ${failures.length} failed`);
process.exitCode = failures.length > 0 ? 1 : 0;

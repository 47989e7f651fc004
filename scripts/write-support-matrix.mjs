#!/usr/bin/env node
// Writes docs/support-matrix.md from what tests have shown: the rows of docs/support-matrix.json whose tests passed in the recorded
// run, and the results of CRIU's own test programs (test/zdtm/results.json, from `make zdtm`).
//   write-support-matrix.mjs                     writes the page
//   write-support-matrix.mjs --check             says whether the page is what it would write
//   write-support-matrix.mjs --record REPORT...  first takes over what vitest's reports (test-results/e2e*.json) say of the tests named
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const top = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const files = {
  rows: "docs/support-matrix.json",
  recorded: "docs/support-matrix-tests.json",
  programs: "test/zdtm/results.json",
  page: "docs/support-matrix.md",
};

/** How to come by what a run of tests has to leave first. @type {Readonly<Record<string, string>>} */
const made = {
  [files.recorded]: "run the end-to-end tests, then --record test-results/e2e.json",
  [files.programs]: "run make zdtm",
  [files.page]: "run this without --check",
};

/** @param {string} file */
function read(file) {
  const whole = path.resolve(top, file);
  if (existsSync(whole)) return readFileSync(whole, "utf8");
  console.error(`support-matrix: there is no ${file}${made[file] === undefined ? "" : `: ${made[file]}`}`);
  process.exit(1);
}

/**
 * @typedef {{ what: string, how: string, tests: [file: string, pattern: string][] }} Row
 * @typedef {{ moves: Row[], refused: Row[], families: [what: string, names: string][] }} Rows
 * @typedef {Record<string, Record<string, string>>} Recorded status by full name, by file
 * @typedef {{ name: string, outcome: string, text: string, profile: string, plain: null | { outcome: string, text: string } }} Program
 * @typedef {{ criu: string, runc: string, kernel: string, programs: Program[] }} Programs
 */

/** Statuses of all tests that a row names. @param {Recorded} recorded @param {Row} row */
const statuses = (recorded, row) =>
  row.tests.map(([file, pattern]) =>
    Object.entries(recorded[file] ?? {})
      .filter(([name]) => new RegExp(pattern).test(name))
      .map(([, status]) => status),
  );

/** Shown: each of its tests was run, and passed. @param {Recorded} recorded @param {Row} row */
const isShown = (recorded, row) =>
  statuses(recorded, row).every((of) => of.length > 0 && of.every((status) => status === "passed"));

/** @param {string[]} cells */
const line = (...cells) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;

/** @param {Recorded} recorded @param {Row[]} rows @param {string} how */
const table = (recorded, rows, how) => [
  line("what", how, "shown by"),
  "|---|---|---|",
  ...rows
    .filter((row) => isShown(recorded, row))
    .map((row) =>
      line(
        row.what,
        row.how,
        [...new Set(row.tests.map(([file]) => `\`test/e2e/${file}.test.ts\``))].join(", "),
      ),
    ),
];

const REASON_LENGTH = 240;
/** @param {Program} program */
const reason = ({ text }) => text.replace(/\s+/g, " ").slice(0, REASON_LENGTH);

/** @param {Program[]} programs @param {string} title */
const list = (programs, title) =>
  programs.length === 0
    ? []
    : [
        "",
        `### ${title}`,
        "",
        line("program", "why", "stock runc and CRIU, in one VM"),
        "|---|---|---|",
        ...programs.map((program) => line(program.name, reason(program), program.plain?.outcome ?? "")),
      ];

/** @param {Programs} results @param {Rows["families"]} families */
function programsSection({ criu, runc, kernel, programs }, families) {
  /** @param {string} outcome @param {Program[]} [of] */
  const ending = (outcome, of = programs) => of.filter((program) => program.outcome === outcome);
  const rows = families.map(([what, names]) => {
    const own = programs.filter(
      ({ name }) => families.find(([, each]) => new RegExp(each).test(name))?.[1] === names,
    );
    return { what, own };
  });
  const rest = programs.filter(({ name }) => !families.some(([, names]) => new RegExp(names).test(name)));
  return [
    "## CRIU's own test programs",
    "",
    `The programs of \`test/zdtm/static\` of CRIU ${criu}, each in a container that was moved to another VM and back, and asked to`,
    `verify what it holds (\`make zdtm\`; runc ${runc}, kernel ${kernel}).`,
    "",
    line("what they hold", "moved", "refused", "failed", "not for a move"),
    "|---|---|---|---|---|",
    ...[...rows, { what: "Other", own: rest }]
      .filter(({ own }) => own.length > 0)
      .map(({ what, own }) =>
        line(what, ...["moved", "refused", "failed", "unfit"].map((one) => String(ending(one, own).length))),
      ),
    line("**all**", ...["moved", "refused", "failed", "unfit"].map((one) => `**${ending(one).length}**`)),
    ...list(ending("refused"), "Refused before anything was stopped"),
    ...list(ending("failed"), "Failed: the move was rolled back, or something was not as before"),
    ...list(ending("unfit"), "Not for a move"),
  ];
}

/** @param {Rows} rows @param {Recorded} recorded @param {Programs} programs */
const page = (rows, recorded, programs) =>
  [
    "# What moves, and what does not",
    "",
    "Made by `scripts/write-support-matrix.mjs` from what tests have shown, and from nothing else; not to be edited.",
    "",
    "## What moves",
    "",
    ...table(recorded, rows.moves, "how"),
    "",
    "## What is refused, before anything is stopped",
    "",
    ...table(recorded, rows.refused, "how it is named"),
    "",
    ...programsSection(programs, rows.families),
    "",
  ].join("\n");

/** @param {Rows} rows @param {string[]} reports */
function record(rows, reports) {
  /** @type {Recorded} */
  const recorded = existsSync(path.join(top, files.recorded)) ? JSON.parse(read(files.recorded)) : {};
  const wanted = [...rows.moves, ...rows.refused].flatMap((row) => row.tests);
  for (const report of reports) {
    /** @type {{ testResults: { name: string, assertionResults: { status: string, fullName: string }[] }[] }} */
    const { testResults } = JSON.parse(read(path.resolve(report)));
    for (const { name, assertionResults } of testResults) {
      const file = path.basename(name, ".test.ts");
      const patterns = wanted.filter(([of]) => of === file).map(([, pattern]) => new RegExp(pattern));
      const said = assertionResults.filter(({ fullName }) =>
        patterns.some((pattern) => pattern.test(fullName)),
      );
      if (said.length > 0)
        recorded[file] = Object.fromEntries(said.map(({ fullName, status }) => [fullName, status]));
    }
  }
  writeFileSync(path.join(top, files.recorded), `${JSON.stringify(recorded, null, 2)}\n`);
}

const [mode, ...reports] = process.argv.slice(2);
/** @type {Rows} */
const rows = JSON.parse(read(files.rows));
if (mode === "--record") record(rows, reports);
/** @type {Recorded} */
const recorded = JSON.parse(read(files.recorded));
const text = page(rows, recorded, JSON.parse(read(files.programs)));
for (const row of [...rows.moves, ...rows.refused])
  if (!isShown(recorded, row)) console.error(`support-matrix: no test has shown, so left out: ${row.what}`);
if (mode === "--check") {
  if (read(files.page) !== text) {
    console.error(
      `${files.page} is not what its tests have shown: write it anew with node scripts/write-support-matrix.mjs`,
    );
    process.exitCode = 1;
  }
} else writeFileSync(path.join(top, files.page), text);

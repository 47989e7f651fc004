/** The report as Markdown: bars, medians and where the time goes; tables only. */
import { comparedSettings, isQuiet, type Results } from "../results.js";
import { barRows, countVerdicts } from "./bar-table.js";
import { commandsOf, countsOf, emulationWarning, factsOf, wrongs } from "./facts.js";
import type { Section, Table } from "./figure.js";
import { gaps } from "./gaps.js";
import { buildSections } from "./sections.js";
import { accountOfTime, phaseGuide } from "./where.js";

export function markdown(results: Results): string {
  const { present, absent } = buildSections(results);
  return `${[
    head(results),
    barSection(results),
    ...present.flatMap((section) => [
      sectionOf(section),
      ...(section.id === "phases" ? [text(phaseGuide()), ...gapList(results), accounts(results)] : []),
    ]),
    commandSection(results),
    wrongSection(results),
    absent.length === 0 ? "" : `Not measured: ${absent.map(text).join(", ")}.`,
  ]
    .filter((part) => part !== "")
    .join("\n\n")}\n`;
}

function head(results: Results): string {
  const { run } = results;
  const facts = factsOf(results).map(([name, value]) => `| ${name} | ${cell(value)} |`);
  return [
    "# Results",
    run === null
      ? "The results file has no run."
      : `Made from a results file of \`mwarp bench\`; do not edit. ${text(countsOf(results))}`,
    ...(facts.length === 0 ? [] : [["| | |", "|---|---|", ...facts].join("\n")]),
    ...(run?.accelerator === "tcg" ? [emulationWarning] : []),
  ].join("\n\n");
}

function barSection(results: Results): string {
  const rows = barRows(results);
  const table: Table = {
    head: ["figure", "bar", "verdict", "setting", "median", "95 % interval", "runs", "remark"],
    rows: rows.flatMap(({ figure, limit, settings }) =>
      settings.map((one, index) => [
        index === 0 ? figure : "",
        index === 0 ? limit : "",
        one.verdict,
        one.setting,
        one.value,
        one.interval,
        one.runs,
        one.note,
      ]),
    ),
    words: [1, 2, 3, 7],
  };
  const how = rows.map(({ figure, how: words }) => `- ${text(figure)}: ${text(words)}.`);
  return [
    "## Bars",
    `${countVerdicts(rows)}. A bar is met when its median is; with fewer runs than it asks for it is not measured. Intervals are bootstrapped over rounds.`,
    tableOf(table),
    "How they are computed:",
    how.join("\n"),
  ].join("\n\n");
}

const sectionOf = ({ title, figures }: Section): string =>
  [
    `## ${text(title)}`,
    ...figures.map(
      (figure) => `### ${text(figure.title)}\n\n${paragraph(figure.note)}\n\n${tableOf(figure.table)}`,
    ),
  ].join("\n\n");

function gapList(results: Results): string[] {
  const list = gaps(results);
  if (list.length === 0) return [];
  return [`Bars on time that are not reached:\n\n${list.map((one) => `- ${text(one)}`).join("\n")}`];
}

function accounts(results: Results): string {
  return comparedSettings(results.migrations.filter(isQuiet))
    .map((setting) => accountOfTime(results, setting))
    .map(
      ({ setting, sentences }) =>
        `${text(setting)}:\n\n${sentences.map((one) => `- ${text(one)}`).join("\n")}`,
    )
    .join("\n\n");
}

function commandSection(results: Results): string {
  const all = commandsOf(results);
  if (all.length === 0) return "";
  return [
    "## The baselines' commands",
    ...all.map(
      ({ method, lines }) => `${method}:\n\n${lines.map((line) => `    ${oneLine(line)}`).join("\n")}`,
    ),
  ].join("\n\n");
}

function wrongSection(results: Results): string {
  const table = wrongs(results);
  return table.rows.length === 0 ? "" : `## What went wrong\n\n${tableOf(table)}`;
}

function tableOf({ head, rows, words = [] }: Table): string {
  const rule = head.map((_, index) => (index === 0 || words.includes(index) ? "---" : "--:"));
  return [head, rule, ...rows]
    .map((row, index) => `| ${(index === 1 ? row : row.map(cell)).join(" | ")} |`)
    .join("\n");
}

const oneLine = (value: string): string => value.replaceAll(/\s+/g, " ");

/** No character of a value is Markdown or HTML. */
const text = (value: string): string =>
  oneLine(value)
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(/[\\`*_[\]|]/g, "\\$&");
/** What would begin a heading, quotation or list does not. */
const paragraph = (value: string): string => text(value).replace(/^\s*(?=[#>+-])/, "\\");
const cell = (value: string): string => (value === "" ? " " : text(value));

/** Pages made from what the program itself knows, so that they cannot drift from it. */
import type { Argument, Command, Option } from "commander";
import { errorCodes, errorTable } from "../errors.js";

const meanings: readonly (readonly [number, string])[] = [
  [0, "done"],
  [1, "failed; the container runs at its source"],
  [2, "wrong usage, or not root"],
  [3, "daemon, VM or agent unreachable"],
  [4, "busy, try again"],
  [5, "refused before anything was touched"],
  [6, "not found"],
  [7, "cancelled and rolled back"],
  [8, "needs `mwarp recover`"],
  [130, "interrupted"],
];

/** docs/errors.md */
export function errorsPage(): string {
  const rows = errorCodes.map((code) => {
    const { exit, retryable, remedy } = errorTable[code];
    return `| \`${code}\` | ${exit} | ${retryable ? "yes" : "no"} | ${cell(remedy)} |`;
  });
  return [
    "# Errors",
    "",
    "Made from `src/errors.ts` by `scripts/write-docs.mjs`. Every error that `mwarp` prints has one of these codes;",
    "`--json` has it as `error.code`. *Retry*: the same command may succeed later with nothing changed.",
    "",
    "| code | exit status | retry | remedy |",
    "|---|---|---|---|",
    ...rows,
    "",
    "## Exit status",
    "",
    "| status | meaning |",
    "|---|---|",
    ...meanings.map(([status, meaning]) => `| ${status} | ${meaning} |`),
    "",
    "`mwarp exec` and `mwarp vm exec` end with the exit status of the command they ran.",
    "",
  ].join("\n");
}

/** docs/commands.md, from the command tree. */
export function commandsPage(program: Command): string {
  return [
    "# Commands",
    "",
    "Made from the command tree by `scripts/write-docs.mjs`. `mwarp COMMAND --help` says the same.",
    "",
    ...leaves(program).flatMap(commandSection),
  ].join("\n");
}

/** What does something by itself: commands without others below them, and those that take arguments of their own. */
function leaves(command: Command): Command[] {
  const below = command.commands.flatMap(leaves);
  return below.length === 0 || command.registeredArguments.length > 0 ? [command, ...below] : below;
}

function commandSection(command: Command): string[] {
  const name = pathOf(command);
  const aliases = command.aliases().length === 0 ? "" : ` Also: ${command.aliases().join(", ")}.`;
  const usage = command.usage().replace(/^\[options\] ?/, "");
  const rows = [...command.registeredArguments.map(argumentRow), ...command.options.map(optionRow)];
  return [
    `## ${name}`,
    "",
    `${sentence(command.description())}${aliases}`,
    "",
    `    ${`${name} [options] ${usage}`.trim()}`,
    "",
    ...(rows.length === 0 ? [] : ["| | |", "|---|---|", ...rows, ""]),
  ];
}

const pathOf = (command: Command): string =>
  command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;

const argumentRow = (argument: Argument): string => {
  const name = argument.variadic ? `${argument.name()}...` : argument.name();
  return `| \`${argument.required ? `<${name}>` : `[${name}]`}\` | ${cell(argument.description)} |`;
};

function optionRow(option: Option): string {
  const facts = [
    ...(option.mandatory ? ["required"] : []),
    ...(option.argChoices === undefined ? [] : [option.argChoices.join(", ")]),
    ...(option.defaultValue === undefined
      ? []
      : [`default ${option.defaultValueDescription ?? String(option.defaultValue)}`]),
  ];
  const more = facts.length === 0 ? "" : ` (${facts.join("; ")})`;
  return `| \`${cell(option.flags)}\` | ${cell(option.description)}${more} |`;
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
const cell = (text: string): string => text.replaceAll("|", "\\|");

/** `mwarp bench`: measures migrations, and reports what was measured. */
import { Argument, InvalidArgumentError, Option } from "commander";
import type { PlanOptions } from "../../bench/plan.js";
import { type SuiteName, suiteNames, suites } from "../../bench/suites.js";
import { parseCount, parseSize } from "../parse.js";
import { type Register, withJson } from "../session.js";

interface Options extends PlanOptions {
  readonly seed?: number;
  readonly output?: string;
  readonly resume?: string;
  readonly json?: true;
}

/** Values with commas between them. */
function listOf<T>(parse: (text: string) => T): (text: string) => readonly T[] {
  return (text) => text.split(",").map((part) => parse(part.trim()));
}

function choice<T extends string>(...known: readonly T[]): (text: string) => T {
  return (text) => {
    const found = known.find((one) => one === text);
    if (found === undefined) throw new InvalidArgumentError(`Allowed choices are ${known.join(", ")}.`);
    return found;
  };
}

function parseShare(text: string): number {
  const share = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || !Number.isFinite(share))
    throw new InvalidArgumentError("Not a share; write 0, 0.5 or 1.");
  return share;
}

const suiteLines = suiteNames.map((name) => `  ${name.padEnd(14)}${suites[name].about}`).join("\n");
const help = `
Suites:
${suiteLines}

Options with <list> replace what the suite measures: several values with commas between them.
It brings up labs of its own, beside one that is up. Ctrl-C stops it; --resume FILE goes on.`;

export const registerBench: Register = (program, session) => {
  const bench = withJson(
    program.command("bench").description("measure migrations by every method, in a lab of its own"),
  )
    .addArgument(new Argument("[suite]", "what to measure (default: quick)").choices(suiteNames))
    .option("--size <list>", "memory of the container, e.g. 64M,1G", listOf(parseSize))
    .option("--pages <list>", "its pages: thp, scattered", listOf(choice("thp", "scattered")))
    .option(
      "--backing <list>",
      "host memory of the VMs: 4k, thp, hugetlb",
      listOf(choice("4k", "thp", "hugetlb")),
    )
    .option(
      "--write-share <list>",
      "share of its pages that it writes each second, e.g. 0,0.5",
      listOf(parseShare),
    )
    .option("--processes <list>", "processes that hold the memory together", listOf(parseCount(1)))
    .option(
      "--method <list>",
      "warp, cold, precopy, postcopy",
      listOf(choice("warp", "cold", "precopy", "postcopy")),
    )
    .option("--backend <list>", "of method warp: auto, remap, copy", listOf(choice("auto", "remap", "copy")))
    .option(
      "--strategy <list>",
      "of method warp: auto, eager, staged",
      listOf(choice("auto", "eager", "staged")),
    )
    .option("--rounds <count>", "repetitions of each measurement", parseCount(1))
    .option("--seed <number>", "makes the order of a run again", parseCount(0))
    .option("--output <file>", "file of results (default: results/TIME-SUITE.jsonl)")
    .addOption(
      new Option("--resume <file>", "measure only what is missing in this file").conflicts([
        "output",
        "seed",
      ]),
    )
    .addHelpText("after", help)
    .action(async (suite: SuiteName | undefined, options: Options) => {
      session.requireRoot("mwarp bench");
      const { benchCommand } = await import("../bench.js");
      const { seed, output, resume, json: _json, ...plan } = options;
      await benchCommand(session, { suite, plan, seed, output, resume });
    });

  bench
    .command("report")
    .description("make a report for people from a file of results")
    .argument("<file>", "what mwarp bench has written")
    .option("--html <file>", "a page that holds its plots (default: FILE with .html in place of .jsonl)")
    .option("--markdown <file>", "a page for the documentation")
    .action(async (file: string, options: { readonly html?: string; readonly markdown?: string }) => {
      const { reportCommand } = await import("../bench-report.js");
      await reportCommand(session, file, options);
    });
};

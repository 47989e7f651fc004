/** Carries out `mwarp bench`: begins a file or goes on with one, and says what came of it. */
import { randomInt } from "node:crypto";
import { existsSync } from "node:fs";
import path from "node:path";
import { makePlan, type PlanOptions } from "../bench/plan.js";
import { BenchProgress } from "../bench/progress.js";
import type { Plan } from "../bench/records.js";
import { readResults, requireNew } from "../bench/results-file.js";
import { requireSame, runOf } from "../bench/resume.js";
import { type BenchOptions, runBench } from "../bench/run.js";
import type { SuiteName } from "../bench/suites.js";
import { summarize, summaryTable } from "../bench/summary.js";
import { ExitCode } from "../errors.js";
import { currentBuild } from "../protocol/build.js";
import type { Session } from "./session.js";
import { stopUnusedDaemon } from "./stop-daemon.js";

const MOST_SEED = 2 ** 31;

export interface BenchCommand {
  readonly suite: SuiteName | undefined;
  readonly plan: PlanOptions;
  readonly seed: number | undefined;
  readonly output: string | undefined;
  readonly resume: string | undefined;
}

export async function benchCommand(session: Session, command: BenchCommand): Promise<void> {
  const work =
    command.resume === undefined ? begin(session, command) : goOn(session, command, command.resume);
  const progress = new BenchProgress(session.io);
  const records = await session
    .interruptible((signal) =>
      runBench({
        ...work,
        command: session.argv,
        build: currentBuild().build,
        keeper: {
          daemon: () => session.daemon(),
          stopUnusedDaemon: async () => {
            await stopUnusedDaemon(session.io, (text) => session.say(text));
          },
        },
        progress,
        signal,
      }),
    )
    .catch((error: unknown) => {
      progress[Symbol.dispose]();
      if (existsSync(work.file))
        session.say(`what was measured is kept; to go on: mwarp bench --resume ${work.file}`);
      throw error;
    });
  progress[Symbol.dispose]();
  const summary = summarize(work.file, records);
  if (summary.missing > 0 || summary.unverified > 0) session.exitCode = ExitCode.failed;
  if (session.json) return session.document(summary);
  if (summary.cells.length + summary.applications.length > 0) session.print(summaryTable(summary));
  for (const { what, message } of summary.failures) session.say(`failed: ${what}: ${message}`);
  session.say(`results: ${work.file}\nreport:  mwarp bench report ${work.file}`);
}

type Work = Pick<BenchOptions, "plan" | "seed" | "file" | "begun">;

function begin({ io }: Session, { suite = "quick", plan, seed, output }: BenchCommand): Work {
  const time = new Date().toISOString().slice(0, 16).replaceAll(":", "");
  const file = path.resolve(io.cwd, output ?? path.join("results", `${time}-${suite}.jsonl`));
  requireNew(file);
  return { plan: makePlan(suite, plan), seed: seed ?? randomInt(MOST_SEED), file, begun: null };
}

/** What the file was begun with counts; options that say something else are refused. */
function goOn({ io }: Session, { suite, plan }: BenchCommand, name: string): Work {
  const file = path.resolve(io.cwd, name);
  const results = readResults(file);
  const run = runOf(file, results.records);
  if (suite !== undefined || Object.keys(plan).length > 0) {
    const wanted: Plan = makePlan(suite ?? run.plan.suite, plan);
    requireSame(file, { plan: run.plan }, { plan: wanted });
  }
  return { plan: run.plan, seed: run.seed, file, begun: { results, run } };
}

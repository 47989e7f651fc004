/** One migration of the demo: live phases, what the client saw of it, and every key checked. */
import type { Io } from "../cli/io.js";
import { MigrationProgress } from "../cli/output/progress.js";
import { failureLines, summaryLine } from "../cli/output/report.js";
import type { DaemonClient } from "../daemon/client.js";
import { MwarpError } from "../errors.js";
import type { MigrationMethod, MigrationReport } from "../protocol/migration.js";
import type { DemoClient } from "./client.js";
import type { DemoMove } from "./result.js";
import type { Story } from "./story.js";

/** A rollback takes a second or two; a daemon that hangs must not keep Ctrl-C from ending the demo. */
const ROLLBACK_MS = 15_000;
/** TCP waits up to two minutes between two tries (TCP_RTO_MAX). */
const FLOWING_MS = 130_000;

export interface MoveContext {
  readonly io: Io;
  readonly story: Story;
  readonly daemon: DaemonClient;
  readonly client: DemoClient;
  readonly container: string;
  readonly keys: number;
  readonly signal: AbortSignal;
}

/** @throws MWARP_E_INTERNAL or the report's code when the migration was not committed */
export async function move(context: MoveContext, to: string, method: MigrationMethod): Promise<DemoMove> {
  const { story, client, keys } = context;
  await client.mark();
  const report = await migrate(context, to, method);
  // What the client waited is known when it has its answer.
  await client.flowing(FLOWING_MS);
  const seen = await client.mark();
  story.say(summaryLine(report));
  story.say(
    `the client waited ${Math.round(seen.max_gap_ms)} ms at most; connections lost: ${seen.reconnects}, wrong answers: ${seen.wrong}`,
  );
  const check = await story.counted(`checking all ${keys} keys`, keys, (progress) =>
    client.check(keys, progress),
  );
  const wrong = check.missing + check.wrong;
  if (wrong === 0) story.good(`every key has its value`);
  else story.bad(`${check.missing} keys are missing, ${check.wrong} have a wrong value`);
  return { report, client: seen, check };
}

async function migrate(context: MoveContext, to: string, method: MigrationMethod): Promise<MigrationReport> {
  const { io, daemon, container, signal } = context;
  signal.throwIfAborted();
  const id = await daemon.startMigration({
    container,
    to,
    method,
    backend: "auto",
    strategy: "auto",
    dryRun: false,
    timeoutMs: null,
    maxDowntimeMs: null,
    onTimeout: "cancel",
    maxStunMs: null,
  });
  const watching = new AbortController();
  const rollBack = (): void => {
    // Whether or not the daemon takes it, the events end, or the timer ends the watching.
    daemon.cancelMigration(id).catch(() => watching.abort());
    setTimeout(() => watching.abort(), ROLLBACK_MS).unref();
  };
  signal.addEventListener("abort", rollBack, { once: true });
  try {
    using progress = new MigrationProgress(io, { container, to });
    for await (const event of daemon.migrationEvents(id, watching.signal)) {
      progress.handle(event);
      if (event.event === "done") return committed(event.report);
    }
  } finally {
    signal.removeEventListener("abort", rollBack);
  }
  throw new MwarpError("MWARP_E_NEEDS_RECOVERY", `migration ${id} has ended without a report`);
}

function committed(report: MigrationReport): MigrationReport {
  const { error } = report;
  if (error === null) return report;
  throw new MwarpError(error.code, error.message, {
    hint: error.hint,
    phase: error.phase,
    details: failureLines(report, null),
  });
}

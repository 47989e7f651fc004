/** Follows a migration to its end: progress, Ctrl-C, the closing words, the exit status. */
import type { DaemonClient } from "../daemon/client.js";
import { ExitCode, isMwarpError, MwarpError } from "../errors.js";
import type { RecoveryAction } from "../protocol/api.js";
import type { MigrationReport } from "../protocol/migration.js";
import { MigrationProgress } from "./output/progress.js";
import { exitOfReport, failureLines, summaryLine } from "./output/report.js";
import type { Session } from "./session.js";

export interface FollowOptions {
  readonly id: string;
  readonly container: string;
  readonly to: string;
  /** `cancel`: the first Ctrl-C asks the migration to roll back. `detach`: it only ends the watching. */
  readonly onInterrupt: "cancel" | "detach";
  readonly quiet: boolean;
}

/** Ends with the report on stdout (`--json`) or the summary on stderr, and sets the session's exit status. */
export async function followMigration(
  session: Session,
  daemon: DaemonClient,
  options: FollowOptions,
): Promise<void> {
  const watching = new AbortController();
  const progress = options.quiet ? null : new MigrationProgress(session.io, options);
  const say = (text: string): void => (progress === null ? session.say(text) : progress.say(text));
  const interrupt = interruption(daemon, options, say, () => watching.abort());
  const off = session.io.onInterrupt(interrupt);
  let report: MigrationReport | null = null;
  try {
    for await (const event of daemon.migrationEvents(options.id, watching.signal)) {
      progress?.handle(event);
      if (event.event === "done") report = event.report;
    }
  } catch (error) {
    if (!watching.signal.aborted) throw lost(options, error);
  } finally {
    off();
    progress?.[Symbol.dispose]();
  }
  if (watching.signal.aborted && report === null) {
    session.say(`it goes on without you: mwarp wait ${options.id}`);
    session.exitCode = ExitCode.interrupted;
    return;
  }
  if (report !== null) return conclude(session, daemon, report);
  const { recovery } = await daemon.migration(options.id);
  if (recovery === null || recovery.outcome === "pending")
    throw new MwarpError(
      "MWARP_E_NEEDS_RECOVERY",
      `migration ${options.id} was cut off: ${recovery?.message ?? "no daemon has settled it"}`,
    );
  concludeRecovered(session, recovery);
}

/** A migration that its daemon did not live to report: recovery knows who has the container, not how long it took. */
function concludeRecovered(session: Session, recovery: RecoveryAction): void {
  session.exitCode = recovery.outcome === "committed" ? ExitCode.done : ExitCode.failed;
  if (session.json) session.document({ recovery });
  session.say(`${recovery.message} (${recovery.outcome}; recovered after its daemon had died)`);
}

/** What one Ctrl-C after another does. */
function interruption(
  daemon: DaemonClient,
  options: FollowOptions,
  say: (text: string) => void,
  detach: () => void,
): () => void {
  let asked = options.onInterrupt === "detach";
  return () => {
    if (asked) return detach();
    asked = true;
    say("cancelling: it will be rolled back (Ctrl-C again to detach)");
    daemon.cancelMigration(options.id).then(
      ({ state }) => {
        if (state === "finishing")
          say("it is past the commit and only goes forward: finishing (Ctrl-C again to detach)");
      },
      (error: unknown) => say(`could not be cancelled: ${error instanceof Error ? error.message : error}`),
    );
  };
}

async function conclude(session: Session, daemon: DaemonClient, report: MigrationReport): Promise<void> {
  session.exitCode = exitOfReport(report);
  if (session.json) session.document(report);
  if (report.error === null) return session.say(summaryLine(report));
  const { logs } = await daemon.migration(report.id);
  for (const line of failureLines(report, logs)) session.say(line);
}

/** The daemon went away while it was watched: say what is known and how to find out the rest. */
function lost(options: FollowOptions, error: unknown): unknown {
  if (!isMwarpError(error, "MWARP_E_DAEMON_UNREACHABLE")) return error;
  return new MwarpError(
    "MWARP_E_NEEDS_RECOVERY",
    `the daemon ended while ${options.container} was on its way to ${options.to}`,
    {
      hint: `A daemon is being started that settles which VM has it (at once: mwarp recover); then: mwarp inspect ${options.id}`,
      cause: error,
    },
  );
}

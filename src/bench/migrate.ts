/** One migration through the daemon, the way `mwarp migrate` takes. */
import type { DaemonClient } from "../daemon/client.js";
import { MwarpError } from "../errors.js";
import type { MigrationReport, MigrationRequest } from "../protocol/migration.js";

/** A migration that takes longer has hung: 4 GiB over an emulated network card take two minutes. */
const LIMIT_MS = 15 * 60_000;
/** A rollback takes a second or two; a daemon that hangs must not keep the benchmark from going on. */
const ROLLBACK_MS = 30_000;

export type Move = Pick<MigrationRequest, "container" | "to" | "method" | "backend" | "strategy">;

/**
 * Moves the container and gives the report, whatever became of it. When `signal` aborts it is rolled back.
 * @throws MWARP_E_NEEDS_RECOVERY when there is no report, MWARP_E_CANCELLED
 */
export async function migrate(
  daemon: DaemonClient,
  move: Move,
  signal: AbortSignal,
): Promise<MigrationReport> {
  signal.throwIfAborted();
  const id = await daemon.startMigration({
    ...move,
    dryRun: false,
    timeoutMs: LIMIT_MS,
    maxDowntimeMs: null,
    onTimeout: "cancel",
    maxStunMs: null,
  });
  const watching = new AbortController();
  const giveUp = setTimeout(() => watching.abort(), LIMIT_MS + ROLLBACK_MS);
  const rollBack = (): void => {
    // Whether or not the daemon takes it, the events end, or the timer ends the watching.
    daemon.cancelMigration(id).catch(() => watching.abort());
    setTimeout(() => watching.abort(), ROLLBACK_MS).unref();
  };
  signal.addEventListener("abort", rollBack, { once: true });
  try {
    for await (const event of daemon.migrationEvents(id, watching.signal))
      if (event.event === "done") return event.report;
  } catch (error) {
    if (!watching.signal.aborted) throw error;
  } finally {
    clearTimeout(giveUp);
    signal.removeEventListener("abort", rollBack);
  }
  if (signal.aborted) throw new MwarpError("MWARP_E_CANCELLED", "interrupted");
  throw new MwarpError("MWARP_E_NEEDS_RECOVERY", `migration ${id} has ended without a report`);
}

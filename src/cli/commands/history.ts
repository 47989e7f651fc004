/** `mwarp history`: the migrations of this host. */
import type { MigrationSummary } from "../../protocol/api.js";
import { formatAge, formatMs } from "../output/format.js";
import { parseCount } from "../parse.js";
import { type Register, withJson } from "../session.js";

interface HistoryOptions {
  readonly quiet?: true;
  readonly limit: number;
}

export const registerHistory: Register = (program, session) => {
  withJson(program.command("history").description("list migrations, the latest last"))
    .option("-q, --quiet", "ids only")
    .option("-n, --limit <count>", "the last ones only", parseCount(1), 20)
    .action(async (options: HistoryOptions) => {
      const daemon = await session.daemon();
      const migrations = (await daemon.migrations()).migrations.slice(-options.limit);
      if (session.json) return session.document({ migrations });
      if (options.quiet) {
        for (const { id } of migrations) session.print(id);
        return;
      }
      await session.table(
        ["ID", "CONTAINER", "FROM", "TO", "METHOD", "OUTCOME", "TOTAL", "DOWNTIME", "STARTED"],
        migrations.map((item) => [
          item.id,
          item.request.container,
          item.from ?? "-",
          item.request.to,
          item.request.method,
          outcomeOf(item),
          item.report === null ? "-" : formatMs(item.report.time_ms.total),
          item.report?.outcome === "committed" ? formatMs(item.report.time_ms.downtime) : "-",
          formatAge(item.startedAt),
        ]),
      );
    });
};

/** One word on what became of a migration. */
export function outcomeOf(item: MigrationSummary): string {
  if (item.report !== null) return item.report.outcome;
  if (item.recovery !== null) return `${item.recovery.outcome} (recovered)`;
  return item.state === "running" ? `running: ${item.phase ?? "starting"}` : item.state;
}

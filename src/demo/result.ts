/** What the demo found: the document of `mwarp demo --json`. */
import type { MigrationReport } from "../protocol/migration.js";
import type { CheckResult, TrafficReport } from "./client-protocol.js";

/** One move with what the client saw of it and what the check of all keys found afterwards. */
export interface DemoMove {
  readonly report: MigrationReport;
  readonly client: TrafficReport;
  readonly check: CheckResult;
}

export interface DemoResult {
  readonly accelerator: string;
  readonly backing: string;
  readonly keys: number;
  readonly data_bytes: number;
  readonly moves: readonly DemoMove[];
}

/** Sentences about what went wrong; none when every move kept every key, every answer and the connection. */
export function faults({ moves }: DemoResult): string[] {
  return moves.flatMap(({ report, client, check }) => {
    const move = `${report.method} ${report.from} -> ${report.to}`;
    return [
      ...(report.outcome === "committed" ? [] : [`${move}: ${report.outcome}: ${report.error?.message}`]),
      ...(check.missing > 0 ? [`${move}: ${check.missing} of ${check.keys} keys are missing`] : []),
      ...(check.wrong > 0 ? [`${move}: ${check.wrong} of ${check.keys} keys have a wrong value`] : []),
      ...(client.wrong > 0 ? [`${move}: the client got ${client.wrong} wrong answers`] : []),
      ...(client.reconnects > 0 ? [`${move}: the client lost its connection`] : []),
    ];
  });
}

/** What a results file says in short: the document of `mwarp bench --json`, and a table for people. */

import { median } from "simple-statistics";
import { formatMs } from "../cli/output/format.js";
import { renderTable } from "../cli/output/table.js";
import { p99Stall } from "./bars/stalls.js";
import { cellKey, nameOfCell } from "./matrix.js";
import { doneTasks, schedule } from "./plan.js";
import type {
  ApplicationCell,
  ApplicationRecord,
  BenchRecord,
  Cell,
  MigrationRecord,
  RunRecord,
  StallRecord,
} from "./records.js";
import { formatShortTime } from "./report/format.js";
import { lostShare } from "./results.js";

interface CellSummary {
  readonly cell: Cell;
  readonly runs: number;
  /** Medians, ms. */
  readonly total_ms: number;
  readonly downtime_ms: number;
  readonly first_touch_ms: number | null;
}

export interface BenchSummary {
  readonly file: string;
  readonly run: Pick<RunRecord, "id" | "commit" | "accelerator"> | null;
  readonly measured: number;
  /** Measurements of the plan that are not in the file. */
  readonly missing: number;
  /** Moves after which a page was wrong. */
  readonly unverified: number;
  readonly failures: readonly { readonly what: string; readonly code: string; readonly message: string }[];
  readonly cells: readonly CellSummary[];
  readonly stalls: readonly StallSummary[];
  readonly applications: readonly ApplicationSummary[];
}

interface StallSummary {
  readonly cell: Cell;
  readonly runs: number;
  /** Medians, ms; of the page stalls their 99th percentile. */
  readonly total_ms: number;
  readonly downtime_ms: number;
  readonly p99_stall_ms: number | null;
}

interface ApplicationSummary extends ApplicationCell {
  readonly runs: number;
  /** Medians: ms, and the share of the operations that the rate before the move would have made; null when there was none. */
  readonly total_ms: number;
  readonly downtime_ms: number;
  readonly lost_share: number | null;
}

export function summarize(file: string, records: readonly BenchRecord[]): BenchSummary {
  const run = records.find((record): record is RunRecord => record.kind === "run") ?? null;
  const migrations = records.filter((record): record is MigrationRecord => record.kind === "migration");
  const stalls = records.filter((record): record is StallRecord => record.kind === "stalls");
  const done = doneTasks(records);
  const planned = run?.plan === undefined ? [] : schedule(run.plan, run.seed).flatMap((group) => group.tasks);
  return {
    file,
    run: run === null ? null : { id: run.id, commit: run.commit, accelerator: run.accelerator },
    measured: done.size,
    missing: Math.max(0, planned.length - done.size),
    unverified: [...migrations, ...stalls].filter(({ verified }) => !verified).length,
    failures: records.flatMap((record) =>
      record.kind === "failure" ? [{ what: record.what, code: record.code, message: record.message }] : [],
    ),
    cells: summaries(migrations),
    stalls: stallSummaries(stalls),
    applications: applicationSummaries(
      records.filter((record): record is ApplicationRecord => record.kind === "application"),
    ),
  };
}

function applicationSummaries(records: readonly ApplicationRecord[]): ApplicationSummary[] {
  const keyOf = ({ application, backing, method }: ApplicationCell): string =>
    `${application} ${backing} ${method}`;
  return [...new Set(records.map(keyOf))].map((key) => {
    const own = records.filter((record) => keyOf(record) === key);
    const { application, backing, method } = own[0];
    const lost = own.flatMap((record) => lostShare(record) ?? []);
    return {
      application,
      backing,
      method,
      runs: own.length,
      total_ms: median(own.map(({ report }) => report.time_ms.total)),
      downtime_ms: median(own.map(({ report }) => report.time_ms.downtime)),
      lost_share: lost.length === 0 ? null : median(lost),
    };
  });
}

function stallSummaries(records: readonly StallRecord[]): StallSummary[] {
  const keys = [...new Set(records.map(({ cell }) => cellKey(cell)))];
  return keys.map((key) => {
    const own = records.filter(({ cell }) => cellKey(cell) === key);
    const stalls = own.flatMap((record) => p99Stall(record) ?? []);
    return {
      cell: own[0].cell,
      runs: own.length,
      total_ms: median(own.map(({ report }) => report.time_ms.total)),
      downtime_ms: median(own.map(({ report }) => report.time_ms.downtime)),
      p99_stall_ms: stalls.length === 0 ? null : median(stalls),
    };
  });
}

function summaries(migrations: readonly MigrationRecord[]): CellSummary[] {
  const keys = [...new Set(migrations.map(({ cell }) => cellKey(cell)))];
  return keys.map((key) => {
    const own = migrations.filter(({ cell }) => cellKey(cell) === key);
    const touches = own.flatMap(({ first_touch_ms }) => (first_touch_ms === null ? [] : [first_touch_ms]));
    return {
      cell: own[0].cell,
      runs: own.length,
      total_ms: median(own.map(({ report }) => report.time_ms.total)),
      downtime_ms: median(own.map(({ report }) => report.time_ms.downtime)),
      first_touch_ms: touches.length === 0 ? null : median(touches),
    };
  });
}

/** One line for each cell and each application: medians. */
export function summaryTable({ cells, stalls, applications }: BenchSummary): string {
  return renderTable(
    ["CONTAINER AND METHOD", "RUNS", "TOTAL", "DOWNTIME", "FIRST TOUCH", "P99 STALL", "LOST"],
    [
      ...cells.map((one) => [
        nameOfCell(one.cell),
        String(one.runs),
        formatMs(one.total_ms),
        formatMs(one.downtime_ms),
        one.first_touch_ms === null ? "-" : formatMs(one.first_touch_ms),
        "-",
        "-",
      ]),
      ...stalls.map((one) => [
        `page stalls of ${nameOfCell(one.cell)}`,
        String(one.runs),
        formatMs(one.total_ms),
        formatMs(one.downtime_ms),
        "-",
        one.p99_stall_ms === null ? "-" : formatShortTime(one.p99_stall_ms),
        "-",
      ]),
      ...applications.map((one) => [
        `${one.application}, ${one.method} on ${one.backing}`,
        String(one.runs),
        formatMs(one.total_ms),
        formatMs(one.downtime_ms),
        "-",
        "-",
        one.lost_share === null ? "-" : `${Math.round(100 * one.lost_share)} %`,
      ]),
    ],
  );
}

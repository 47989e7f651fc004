/** The bars as a table: a row for each setting of each bar. */
import { type Bar, bars, type Finding, judge, type Verdict, verdictOf } from "../bars.js";
import type { Results } from "../results.js";
import { formatInterval, formatLimit, formatValue } from "./format.js";

export interface BarRow {
  readonly figure: string;
  readonly how: string;
  readonly limit: string;
  readonly verdict: Verdict;
  readonly settings: readonly SettingRow[];
}

export interface SettingRow {
  readonly setting: string;
  readonly verdict: Verdict;
  /** Empty when there is no figure. */
  readonly value: string;
  readonly interval: string;
  readonly runs: string;
  readonly note: string;
}

export function barRows(results: Results): BarRow[] {
  return bars.map((bar) => {
    const findings = judge(bar, results);
    return {
      figure: bar.figure,
      how: bar.how,
      limit: formatLimit(bar),
      verdict: verdictOf(findings),
      settings: findings.map((finding) => settingRow(bar, finding)),
    };
  });
}

function settingRow(bar: Bar, { setting, verdict, estimate, note }: Finding): SettingRow {
  return {
    setting: setting === "" ? "-" : setting,
    verdict,
    value: estimate === null ? "-" : formatValue(bar, estimate),
    interval: estimate === null ? "" : formatInterval(bar, estimate),
    runs: estimate === null ? "0" : String(estimate.runs),
    note: note ?? "",
  };
}

/** "8 met, 1 not met, 3 not measured". */
export function countVerdicts(rows: readonly BarRow[]): string {
  const count = (verdict: Verdict): number => rows.filter((row) => row.verdict === verdict).length;
  return (["met", "not met", "not measured"] as const)
    .map((verdict) => `${count(verdict)} ${verdict}`)
    .join(", ");
}

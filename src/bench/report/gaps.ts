/** By how much warp misses a bar on time, and what of it runc and CRIU take. Sentences; all of them come from the figures. */

import { type Compared, type Comparison, comparedRuns } from "../bars/times.js";
import { bars } from "../bars.js";
import type { MigrationRecord } from "../records.js";
import { nameOfSetting, type Results } from "../results.js";
import { spread } from "../statistics.js";
import { formatTime } from "./format.js";

/** One for each setting in which a bar on total time or downtime is not reached; none for bars that are. */
export function gaps(results: Results): string[] {
  return bars.flatMap(({ figure, limit, comparison }) =>
    comparison === undefined
      ? []
      : comparedRuns(results, comparison).flatMap((runs) => gap(figure, limit.value, comparison, runs) ?? []),
  );
}

function gap(figure: string, limit: number, { name, value }: Comparison, runs: Compared): string | null {
  // A bar is not missed by what was not measured.
  if ([runs.warp, ...runs.others.values()].some((records) => records.length === 0)) return null;
  const median = (records: readonly MigrationRecord[]): number => spread(records.map(value))?.median ?? 0;
  const [best] = [...runs.others]
    .map(([method, records]) => ({ method, time: median(records) }))
    .sort((a, b) => a.time - b.time);
  const warp = median(runs.warp);
  const allowed = best.time * limit;
  if (warp <= allowed) return null;
  const tools = spread(runs.warp.map(toolTime))?.median ?? 0;
  const rest =
    tools > allowed
      ? "more than the bar allows for all phases together: it cannot be reached unless these two get shorter"
      : `which leaves ${formatTime(allowed - tools)} for all other phases`;
  return (
    `${figure} (${nameOfSetting(runs.setting)}): ${best.method} has a ${name} of ${formatTime(best.time)}, so the bar is ` +
    `${formatTime(allowed)}; warp has ${formatTime(warp)}. Its dump and restore, done by runc and CRIU, take ` +
    `${formatTime(tools)}, ${rest}.`
  );
}

const toolTime = ({ report }: MigrationRecord): number =>
  (report.time_ms.phases.dump ?? 0) + (report.time_ms.phases.restore ?? 0);

/** Invariant I7 from records: the plan against doing all of it in one way. */

import type { Found } from "../bars.js";
import type { PlannerRecord } from "../records.js";
import { nameOfSize, type Results, seriesOf } from "../results.js";
import { medianRatio } from "../statistics.js";

interface Layout {
  readonly name: string;
  readonly records: readonly PlannerRecord[];
}

/** Records by layout and size of the host's pages, in the order in which they first come. */
export function layoutsOf(planners: readonly PlannerRecord[]): Layout[] {
  const groups = new Map<string, PlannerRecord[]>();
  for (const record of planners) {
    const name = `${record.layout}, ${nameOfSize(record.host_page_bytes)} host pages`;
    groups.set(name, [...(groups.get(name) ?? []), record]);
  }
  return [...groups].map(([name, records]) => ({ name, records }));
}

export function plannerPredicted({ planners }: Results): Found[] {
  const ratios = planners.map(
    ({ predicted_ms: { auto, remap, copy } }) => auto / Math.min(remap ?? Number.POSITIVE_INFINITY, copy),
  );
  if (ratios.length === 0) return [];
  return [
    {
      setting: "all layouts",
      // Sums of the same costs in another order differ in their last digits.
      estimate: { value: Number(Math.max(...ratios).toFixed(9)), low: null, high: null, runs: ratios.length },
      note: "the largest of them",
    },
  ];
}

export function plannerMeasured({ planners }: Results): Found[] {
  return layoutsOf(planners).map(({ name, records }) => {
    const auto = seriesOf(records, ({ measured_ms }) => measured_ms.auto);
    const remap = seriesOf(records, ({ measured_ms }) => measured_ms.remap);
    const copy = seriesOf(records, ({ measured_ms }) => measured_ms.copy);
    // Remapping all of it can be impossible: more mappings than a VMM may have.
    const ways = remap.size === 0 ? [copy] : [remap, copy];
    return { setting: name, estimate: medianRatio(auto, ways), note: null };
  });
}

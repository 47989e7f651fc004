/** The bar on page stalls after the move of a container that is busy with its pages, against stock CRIU's lazy pages. */
import type { Found } from "../bars.js";
import type { StallRecord } from "../records.js";
import { formatShortTime } from "../report/format.js";
import { nameOfSetting, nameOfSize, type Results, seriesOf } from "../results.js";
import { stallQuantile } from "../stall-histogram.js";
import { medianRatio, type Series, spread } from "../statistics.js";
import { judgedWarps } from "./warps.js";

/** ms; null for no pages. */
export const p99Stall = ({ stalls }: Pick<StallRecord, "stalls">): number | null =>
  stallQuantile(stalls.histogram, 0.99);

/** What runs of busy containers must have in common to be compared. */
const placeOf = ({ cell }: StallRecord): string => `${nameOfSize(cell.size)}, ${nameOfSetting(cell)}`;

export function stallGroups(records: readonly StallRecord[]): [place: string, records: StallRecord[]][] {
  const places = [...new Set(records.map(placeOf))];
  return places.map((place) => [place, records.filter((record) => placeOf(record) === place)]);
}

export function stallsAgainstPostcopy({ stalls }: Results): Found[] {
  return stallGroups(stalls).map(([setting, here]) => {
    const warp = seriesOf(judgedWarps(here), p99Stall);
    const postcopy = seriesOf(
      here.filter(({ cell }) => cell.method === "postcopy"),
      p99Stall,
    );
    const note =
      warp.size === 0 || postcopy.size === 0
        ? `no runs of ${warp.size === 0 ? "warp" : "postcopy"}`
        : `p99: warp ${words(warp)}, postcopy ${words(postcopy)}`;
    return { setting, estimate: medianRatio(warp, [postcopy]), note };
  });
}

const words = (series: Series): string => formatShortTime(spread(series.values())?.median ?? 0);

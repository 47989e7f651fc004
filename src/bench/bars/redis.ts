/** The bar on Redis: how much less throughput a move by warp costs than one by pre-copy. */
import type { Found } from "../bars.js";
import { backings } from "../records.js";
import { lostShare, nameOfBacking, type Results, seriesOf } from "../results.js";
import { type Estimate, medianRatio, type Series, spread } from "../statistics.js";

export function redisLoss({ applications }: Results): Found[] {
  const redis = applications.filter(({ application }) => application === "redis");
  return backings.flatMap((backing) => {
    const here = redis.filter((record) => record.backing === backing);
    const seriesFor = (method: "warp" | "precopy"): Series =>
      seriesOf(
        here.filter((record) => record.method === method),
        lostShare,
      );
    const [warp, precopy] = [seriesFor("warp"), seriesFor("precopy")];
    if (warp.size === 0 && precopy.size === 0) return [];
    const less = medianRatio(warp, [precopy]);
    const note =
      warp.size === 0 || precopy.size === 0
        ? `no runs of ${warp.size === 0 ? "warp" : "precopy"}`
        : `lost: warp ${percentOf(warp)}, precopy ${percentOf(precopy)}`;
    return [{ setting: nameOfBacking(backing), estimate: less === null ? null : fromOne(less), note }];
  });
}

const percentOf = (series: Series): string =>
  `${((spread(series.values())?.median ?? 0) * 100).toFixed(1)} %`;

const fromOne = ({ value, low, high, runs }: Estimate): Estimate => ({
  value: 1 - value,
  low: high === null ? null : 1 - high,
  high: low === null ? null : 1 - low,
  runs,
});

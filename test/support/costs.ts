/** Exchange costs that a lab is given instead of measuring them: for tests of what follows from the planner's choice. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { costsFile } from "../../src/paths.js";
import { COSTS_VERSION, type CostFile } from "../../src/protocol/costs.js";
import { type CostModel, DEFAULT_COSTS } from "../../src/warp/cost-model.js";
import { describeHost } from "../../src/warp/host-costs.js";
import type { Mwarp } from "./mwarp.js";

/** As if the daemon had measured them when nothing else ran. */
export function pinCosts({ env }: Mwarp, costs: CostModel = DEFAULT_COSTS): void {
  const file: CostFile = {
    version: COSTS_VERSION,
    measured_at: new Date().toISOString(),
    time_ms: 0,
    host: describeHost(),
    busy: false,
    costs,
  };
  mkdirSync(path.dirname(costsFile(env)), { recursive: true });
  writeFileSync(costsFile(env), JSON.stringify(file));
}

/** What exchanging memory costs on this host, as the daemon has measured it. */
import { existsSync, readFileSync } from "node:fs";
import * as z from "zod/mini";
import { costsFile, type Environment } from "../../paths.js";
import { type CostFile, CostFileSchema, type ExchangeCosts, memoryKinds } from "../../protocol/costs.js";
import { type Check, ok, warn } from "./check.js";

/** What is kept: the costs, null when the host has not been measured yet, or what is wrong with the file. */
export type KeptCosts = { readonly costs: CostFile | null } | { readonly damage: string };

export function readCosts(env: Environment): KeptCosts {
  const file = costsFile(env);
  if (!existsSync(file)) return { costs: null };
  try {
    return { costs: z.parse(CostFileSchema, JSON.parse(readFileSync(file, "utf8"))) };
  } catch (error) {
    return { damage: error instanceof z.core.$ZodError ? z.prettifyError(error) : String(error) };
  }
}

export function judgeCosts(kept: KeptCosts): Check {
  if ("damage" in kept)
    return warn(
      "host.costs",
      `the file is damaged: ${kept.damage}`,
      "None needed: the next daemon measures anew.",
    );
  if (kept.costs === null) return ok("host.costs", "not measured yet; the daemon does it when it starts");
  const { costs, measured_at, busy } = kept.costs;
  const kinds = memoryKinds.map((kind) => `${kind} ${describe(costs[kind])}`);
  return ok("host.costs", `measured ${measured_at}${busy ? " on a busy host" : ""}: ${kinds.join("; ")}`);
}

/** Where remapping and copying cross over is what people want to know of it. */
function describe(costs: ExchangeCosts | null): string {
  if (costs === null) return "not measured, built-in";
  const saved = costs.copyPerPageUs - costs.remapPerPageUs - costs.touchPerPageUs;
  const spent = costs.remapPerExtentUs + costs.touchPerExtentUs - costs.copyPerExtentUs;
  const copy = `copies a page in ${costs.copyPerPageUs.toFixed(2)} us`;
  if (saved <= 0) return `${copy}, remapping gains nothing`;
  return `${copy}, remaps runs from ${Math.max(1, Math.ceil(spent / saved))} pages on`;
}

/**
 * Invariant I7 measured: what a plan promises and what it takes, on memory of this host without a VM; and where remapping and
 * copying cross over. Exchanges are real ones between two processes, by the back ends of a migration.
 */
import { readFileSync } from "node:fs";
import { MwarpError } from "../errors.js";
import type { MemoryKind } from "../protocol/costs.js";
import { HUGE_BYTES, PAGES_PER_HUGE } from "../units.js";
import type { ExchangeCosts } from "../warp/cost-model.js";
import { type Extents, ExtentsBuilder, NO_EXTENTS } from "../warp/extent-list.js";
import { measureKind } from "../warp/measure/measure-costs.js";
import { MemoryPair, type TrialTimes } from "../warp/measure/memory-pair.js";
import { type ExchangePlan, mappingBudget, type Objective, plan } from "../warp/planner.js";
import { baseLayouts, drawExtents, hugeLayouts, type Layout } from "./layouts.js";
import type { CrossoverRecord, PlannerRecord } from "./records.js";

const WAYS: readonly Objective[] = ["auto", "remap", "copy"];
/** 128 MiB on each side. */
const PAGES = 32_768;
const RUNS = [1, 4, 16, 64, 256, 512, 2048, 8192, PAGES] as const;
/** No more pieces than that in one exchange: more mappings than vm.max_map_count allows are no choice anyway. */
const MAX_RUNS = 8192;

/**
 * One round over all layouts that the host pages allow. Costs are measured in the round, and the three ways in an order that
 * changes from round to round, so that load which comes and goes falls on all alike.
 * @param hostPageBytes 4096 or 2 MiB (hugetlb)
 * @param pages 4 KiB pages of memory on each side, whole 2 MiB; a power of two
 * @throws MWARP_E_UNSUPPORTED when this host has no such memory now
 */
export async function measurePlanner(
  round: number,
  hostPageBytes: number,
  signal: AbortSignal,
  pages: number = PAGES,
): Promise<PlannerRecord[]> {
  const kind = kindOf(hostPageBytes);
  const costs = await measureKind(kind, signal);
  if (costs === null) throw noMemory(hostPageBytes);
  const records: PlannerRecord[] = [];
  for (const layout of kind === "hugetlb" ? hugeLayouts : baseLayouts)
    records.push(await measureLayout({ round, kind, pages, signal }, layout, costs));
  return records;
}

interface Round {
  readonly round: number;
  readonly kind: MemoryKind;
  readonly pages: number;
  readonly signal: AbortSignal;
}

async function measureLayout(
  { round, kind, pages, signal }: Round,
  layout: Layout,
  costs: ExchangeCosts,
): Promise<PlannerRecord> {
  const extents = drawExtents(layout, pages, round);
  const measured: Record<Objective, number | null> = { auto: null, remap: null, copy: null };
  let auto: ExchangePlan | null = null;
  for (const objective of rotated(WAYS, round)) {
    // New memory each time: what went before would leave its huge pages in pieces.
    await using pair = await startPair(kind, pages, signal);
    const budget = mappingBudget(maxMapCount(), pair.mappings(), 0);
    const movable = { exchangeable: pair.candidates(extents), copyOnly: NO_EXTENTS };
    const chosen = plan(movable, { objective, costs, mappingBudget: budget });
    if (objective === "auto") auto = chosen;
    if (objective === "remap" && chosen.allRemapMs === null) continue;
    measured[objective] = total(await pair.run(chosen, signal));
  }
  if (auto === null) throw new MwarpError("MWARP_E_INTERNAL", "no plan was made");
  return {
    kind: "planner",
    round,
    layout: layout.name,
    host_page_bytes: kind === "hugetlb" ? HUGE_BYTES : 4096,
    pages: extents.totalPages,
    extents: extents.count,
    predicted_ms: { auto: auto.predictedMs, remap: auto.allRemapMs, copy: auto.allCopyMs },
    measured_ms: { auto: measured.auto ?? 0, remap: measured.remap, copy: measured.copy ?? 0 },
  };
}

/**
 * What runs of each length cost to remap, to touch and to copy.
 * @throws MWARP_E_UNSUPPORTED when this host has no such memory now
 */
export async function measureCrossover(
  round: number,
  hostPageBytes: number,
  signal: AbortSignal,
  pages: number = PAGES,
): Promise<CrossoverRecord[]> {
  const kind = kindOf(hostPageBytes);
  const records: CrossoverRecord[] = [];
  for (const runPages of rotated(RUNS, round)) {
    if (runPages > pages || (kind === "hugetlb" && runPages % PAGES_PER_HUGE !== 0)) continue;
    await using pair = await startPair(kind, pages, signal);
    const extents = evenRuns(pages, runPages);
    const copied = await pair.run({ remap: NO_EXTENTS, copy: extents }, signal);
    const remapped = await pair.run({ remap: extents, copy: NO_EXTENTS }, signal);
    records.push({
      kind: "crossover",
      round,
      host_page_bytes: hostPageBytes,
      pages: extents.totalPages,
      run_pages: runPages,
      remap_ms: remapped.exchangeUs / 1000,
      touch_ms: remapped.touchUs / 1000,
      copy_ms: copied.exchangeUs / 1000,
    });
  }
  return records.sort((a, b) => a.run_pages - b.run_pages);
}

/** As many as fit, but no more than one exchange should have; in another order on the other side. */
function evenRuns(pages: number, runPages: number): Extents {
  const count = Math.min(pages / runPages, MAX_RUNS);
  const extents = new ExtentsBuilder(count);
  // Odd, so that with a power of two of runs every one is met once.
  const stride = 177;
  for (let run = 0; run < count; run++)
    extents.push(run * runPages, ((run * stride) % count) * runPages, runPages);
  return extents.build();
}

async function startPair(kind: MemoryKind, pages: number, signal: AbortSignal): Promise<MemoryPair> {
  const pair = await MemoryPair.start(kind, pages, signal);
  if (pair === null) throw noMemory(kind === "hugetlb" ? HUGE_BYTES : 4096);
  return pair;
}

const kindOf = (hostPageBytes: number): MemoryKind => (hostPageBytes >= HUGE_BYTES ? "hugetlb" : "4k");

const noMemory = (hostPageBytes: number): MwarpError =>
  new MwarpError("MWARP_E_UNSUPPORTED", `this host has no free memory in pages of ${hostPageBytes} bytes`);

const total = ({ exchangeUs, touchUs }: TrialTimes): number => (exchangeUs + touchUs) / 1000;

const rotated = <T>(list: readonly T[], round: number): T[] => {
  const first = round % list.length;
  return [...list.slice(first), ...list.slice(0, first)];
};

/** vm.max_map_count (admin-guide/sysctl/vm.rst). */
const maxMapCount = (): number => Number(readFileSync("/proc/sys/vm/max_map_count", "utf8"));

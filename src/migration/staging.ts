/** Strategy `staged`: what the destination is to have faulted in before the freeze, and whether that is worth it. */
import { toMwarpError } from "../errors.js";
import type { FaultCosts, GuestInfo } from "../protocol/guest-info.js";
import type { MigrationRequest } from "../protocol/migration.js";
import type { StagedMapping } from "../protocol/stage.js";
import { MIB, PAGE_BYTES, PAGES_PER_HUGE } from "../units.js";
import type { Checked } from "./preflight.js";
import { DESTINATION_HEADROOM_BYTES } from "./reasons.js";
import type { Tally } from "./report.js";

/** Time limits, ms. Nobody stands still meanwhile. */
const LOOK_MS = 30_000;
const STAGE_MS = 150_000;
/** CRIU itself, which is in the container's cgroup while it stages. */
const CRIU_BYTES = 32 * MIB;
/** A table of 4 KiB maps 2 MiB, in CRIU and in the task; more than that where pages are huge. */
const PAGE_TABLES = 2 / PAGES_PER_HUGE;
/** CRIU maps all private memory of a task at another place first when any of it is handed over; a program has so many mappings. */
const MAPPINGS_OF_A_TASK = 100;

/** What the choice needs, of a migration or of a plan for one. */
export interface Choice {
  readonly checked: Checked;
  readonly signal: AbortSignal;
  readonly request: Pick<MigrationRequest, "strategy">;
  readonly onNote: (message: string) => void;
}

/** What is needed of a migration's context. */
interface Context extends Choice {
  readonly id: string;
  readonly tally: Pick<Tally, "strategy" | "staged">;
  staged: readonly StagedMapping[];
}

/** What is to be staged; none when everything is to be populated while the container stands still. Changes nothing. */
export async function chooseStage(context: Choice): Promise<readonly StagedMapping[]> {
  const { request, checked, onNote } = context;
  if (request.strategy === "eager") return [];
  const mappings = await look(context);
  if (mappings === null) return [];
  const why = whyNot(mappings, checked);
  if (why !== null) {
    if (request.strategy === "staged") onNote(`nothing is staged: ${why}`);
    return [];
  }
  if (request.strategy === "staged") return mappings;
  const { eagerMs, stagedMs } = predict(mappings, checked.destinationInfo);
  return stagedMs < eagerMs ? mappings : [];
}

/** Null when the source cannot say: that is no reason not to move. */
async function look({ checked, signal, onNote }: Choice): Promise<readonly StagedMapping[] | null> {
  try {
    const options = { signal, timeoutMs: LOOK_MS };
    const { name } = checked.usage.spec;
    return (await checked.sourceAgent.call("source.stageable", { name }, options)).mappings;
  } catch (error) {
    signal.throwIfAborted();
    onNote(`nothing is staged: ${toMwarpError(error).message}`);
    return null;
  }
}

/** Null when nothing speaks against it. What the mappings are is the source's word: it must not cost the destination its memory. */
function whyNot(
  mappings: readonly StagedMapping[],
  { usage, destinationInfo }: Pick<Checked, "usage" | "destinationInfo">,
): string | null {
  const bytes = mappings.reduce((sum, { fills }) => sum + pagesOf(fills), 0) * PAGE_BYTES;
  if (bytes === 0) return "the container has no private memory that could be";
  if (destinationInfo.faultCosts === null) return "the destination's kernel cannot fault memory in ahead";
  const needed = bytes + bytes * PAGE_TABLES;
  if (needed + DESTINATION_HEADROOM_BYTES > destinationInfo.memAvailableBytes)
    return "it has no room in the destination's memory";
  const { memoryLimitBytes: limit } = usage;
  if (limit !== null && needed + CRIU_BYTES > limit)
    return "the container's memory limit leaves CRIU no room";
  return null;
}

/**
 * What of a container's standing still either strategy is, ms: faulting its memory in; or taking what was staged back from the fork
 * by which the tasks got it, and mapping everything twice.
 */
export function predict(
  mappings: readonly StagedMapping[],
  { faultCosts, transparentHugepages }: Pick<GuestInfo, "faultCosts" | "transparentHugepages">,
): { eagerMs: number; stagedMs: number } {
  if (faultCosts === null) return { eagerMs: 0, stagedMs: Number.POSITIVE_INFINITY };
  const tasks = new Set(mappings.map(({ nsPid }) => nsPid)).size;
  let [eagerUs, stagedUs] = [0, tasks * MAPPINGS_OF_A_TASK * faultCosts.moveUs];
  for (const mapping of mappings) {
    const { inUs, backUs } = costsOf(mapping, faultCosts, transparentHugepages);
    eagerUs += pagesOf(mapping.fills) * inUs;
    stagedUs += pagesOf(mapping.fills) * backUs;
  }
  return { eagerMs: eagerUs / 1000, stagedMs: stagedUs / 1000 };
}

const getsHugePages = ({ hugePages }: StagedMapping, mode: string): boolean =>
  mode !== "never" && (hugePages === "asked" || (hugePages === "default" && mode === "always"));

/** Of a page, us. */
function costsOf(
  mapping: StagedMapping,
  { hugeUs, smallUs, takeHugeUs, takeSmallUs }: FaultCosts,
  mode: string,
): { inUs: number; backUs: number } {
  return getsHugePages(mapping, mode)
    ? { inUs: hugeUs / PAGES_PER_HUGE, backUs: takeHugeUs / PAGES_PER_HUGE }
    : { inUs: smallUs, backUs: takeSmallUs };
}

const pagesOf = (fills: StagedMapping["fills"]): number => fills.reduce((sum, { pages }) => sum + pages, 0);

/** Until the destination has it, or has not: then all is populated while the container stands still, and that is said. */
export async function awaitStaged(context: Context, mappings: readonly StagedMapping[]): Promise<void> {
  const { pages, reason } = await context.checked.destinationAgent.call(
    "destination.staged",
    { migration: context.id },
    { signal: context.signal, timeoutMs: STAGE_MS },
  );
  if (reason !== null) context.onNote(`nothing is staged: ${reason}`);
  if (pages === 0) return;
  context.tally.strategy = "staged";
  context.tally.staged = Math.min(pages, pagesOf(mappings.flatMap(({ fills }) => fills)));
  context.staged = mappings;
}

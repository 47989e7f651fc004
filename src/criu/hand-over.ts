/**
 * Decides which mappings of the restored tasks get memory that was staged before the freeze, and writes the list that says so to the
 * library in CRIU (native/criu/plan.c). No byte depends on it: what is handed over is zero, and what it replaces is empty.
 */
import type { StagedMapping } from "../protocol/stage.js";
import { PAGES_PER_HUGE } from "../units.js";
import type { DumpedTask, Mapping, Replaceable } from "./tasks.js";

interface Span {
  readonly page: number;
  readonly pages: number;
}

/** What is known of a task once its pages are planned: those that are listed in its pagemap, and of them those that are warped. */
export interface PlannedTask {
  readonly task: DumpedTask;
  /** Both ascending, without overlap. */
  readonly listed: readonly Span[];
  readonly wanted: readonly Span[];
}

/** `place`: pages from the start of the task's area for premapped mappings. */
interface Placed {
  readonly mapping: Mapping;
  readonly place: number;
}

interface Given extends Placed {
  /** Its number in the list of what was staged. */
  readonly stage: number;
  readonly from: StagedMapping;
  /** Pages of it that were faulted in. */
  readonly ready: number;
}

/** The list; null when nothing that was staged is of use. */
export function handOverList(
  planned: readonly PlannedTask[],
  staged: readonly StagedMapping[],
): string | null {
  const given = planned.map((plan) => ({ plan, ...inPhase(giveAll(plan, staged)) }));
  if (given.every(({ mappings }) => mappings.length === 0)) return null;
  const lines = given.flatMap(({ plan, phase, mappings }) => {
    const { nsPid, parentPid } = plan.task;
    return [`task ${nsPid} ${parentPid} ${phase}`, ...mappings.flatMap((one) => lineOf(one, plan))];
  });
  return `${lines.join("\n")}\n`;
}

function giveAll(plan: PlannedTask, staged: readonly StagedMapping[]): Given[] {
  return place(plan.task.mappings ?? []).flatMap((placed) => {
    if (!canBeReplaced(placed.mapping, plan)) return [];
    const best = bestStage(placed, plan.task.nsPid, staged);
    return best === null ? [] : [best];
  });
}

/** criu/mem.c, prepare_mm_pid and premap_private_vma: private mappings side by side, in the order of their addresses. */
function place(mappings: readonly Mapping[]): Placed[] {
  let next = 0;
  return mappings
    .filter(({ premapped }) => premapped !== "not")
    .map((mapping) => {
      const at = next;
      // One page more for a token of the shadow stack.
      next += mapping.endPage - mapping.page + (mapping.premapped === "with a page more" ? 1 : 0);
      return { mapping, place: at };
    });
}

/** Read and written, of the plainest kind, and CRIU brings none of its pages: they would be lost with what is replaced. */
function canBeReplaced(mapping: Mapping, { listed, wanted }: PlannedTask): boolean {
  return mapping.replaceable !== null && pagesIn(listed, mapping) === pagesIn(wanted, mapping);
}

/** CRIU can give advice on huge pages that was not given before, and cannot take back any. */
const isAlike = ({ commit, hugePages }: StagedMapping, mapping: Replaceable | null): boolean =>
  commit === mapping?.commit && (hugePages === "off" ? "default" : hugePages) === mapping.advice;

function bestStage(placed: Placed, nsPid: number, staged: readonly StagedMapping[]): Given | null {
  const { page, endPage, replaceable } = placed.mapping;
  let best: Given | null = null;
  for (const [stage, from] of staged.entries()) {
    const holds = from.page <= page && endPage <= from.page + from.pages;
    if (from.nsPid !== nsPid || !holds || !isAlike(from, replaceable)) continue;
    const ready = pagesIn(from.fills, placed.mapping);
    if (ready > (best?.ready ?? 0)) best = { ...placed, stage, from, ready };
  }
  return best;
}

/**
 * A huge page stays one on its way when it is premapped as it lies in the end, within 2 MiB. CRIU puts all mappings of a task side
 * by side, so a start for them can be chosen that suits as many pages as possible. Mappings with huge pages that it does not suit
 * are populated when they are in their place: they would come in small pieces.
 */
function inPhase(given: readonly Given[]): { phase: number; mappings: Given[] } {
  const worth = new Map<number, number>();
  for (const one of given) {
    const pages = one.ready * (one.from.hugeBytes > 0 ? PAGES_PER_HUGE : 1);
    worth.set(phaseOf(one), (worth.get(phaseOf(one)) ?? 0) + pages);
  }
  const [best] = [...worth].sort(([, a], [, b]) => b - a);
  const phase = best?.[0] ?? 0;
  return { phase, mappings: given.filter((one) => one.from.hugeBytes === 0 || phaseOf(one) === phase) };
}

function phaseOf({ mapping, place: at }: Given): number {
  const phase = (mapping.page - at) % PAGES_PER_HUGE;
  return phase < 0 ? phase + PAGES_PER_HUGE : phase;
}

function lineOf({ mapping, place: at, stage, from }: Given, { wanted }: PlannedTask): string[] {
  const { page, endPage } = mapping;
  const keeps = intersect(clip(from.fills, page, endPage), clip(wanted, page, endPage));
  return [
    `vma ${at} ${endPage - page} ${stage} ${page - from.page}`,
    ...keeps.map((keep) => `keep ${keep.page - page} ${keep.pages}`),
  ];
}

/** What of `spans` (ascending, without overlap) lies from `page` to `endPage`. The container stands still: only those are looked at. */
function clip(spans: readonly Span[], page: number, endPage: number): Span[] {
  const clipped: Span[] = [];
  for (let at = firstBeyond(spans, page); at < spans.length && spans[at]!.page < endPage; at++) {
    const start = Math.max(spans[at]!.page, page);
    const pages = Math.min(spans[at]!.page + spans[at]!.pages, endPage) - start;
    // An agent's list need not be in order, whatever it is to be.
    if (pages > 0) clipped.push({ page: start, pages });
  }
  return clipped;
}

/** Index of the first span that ends beyond `page`, by bisection. */
function firstBeyond(spans: readonly Span[], page: number): number {
  let [low, high] = [0, spans.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (spans[middle]!.page + spans[middle]!.pages <= page) low = middle + 1;
    else high = middle;
  }
  return low;
}

const pagesIn = (spans: readonly Span[], { page, endPage }: Mapping): number =>
  clip(spans, page, endPage).reduce((sum, { pages }) => sum + pages, 0);

/** What is in both; either ascending, without overlap. */
function intersect(spans: readonly Span[], others: readonly Span[]): Span[] {
  const common: Span[] = [];
  let next = 0;
  for (const { page, pages } of spans) {
    while (next < others.length && others[next]!.page + others[next]!.pages <= page) next++;
    for (let i = next; i < others.length && others[i]!.page < page + pages; i++) {
      const start = Math.max(page, others[i]!.page);
      const end = Math.min(page + pages, others[i]!.page + others[i]!.pages);
      common.push({ page: start, pages: end - start });
    }
  }
  return common;
}

/** The pages a migration wants moved: for each task sorted, disjoint runs of virtual pages. Numbers of the table are positions in this order. */
import { MwarpError } from "../errors.js";
import type { PageRun } from "../protocol/agent.js";
import { type PageCount, pageCount } from "../units.js";

/** Runs of one task, ascending and neither overlapping nor touching. */
export interface TaskPages {
  readonly nsPid: number;
  /** First virtual page (address / 4096) of each run; up to 2^45, so not a 32-bit number. */
  readonly startPage: Float64Array;
  readonly pages: Uint32Array;
  readonly total: PageCount;
}

export interface WantedPages {
  readonly tasks: readonly TaskPages[];
  readonly total: PageCount;
}

/** More than 1 TiB of pages in one container is taken for a lie. */
export const DEFAULT_PAGE_LIMIT = 2 ** 28;
/** The upper half of the address space is the kernel's: user pages lie below 2^56 with five levels. */
const END_OF_USER_PAGES = 2 ** 44;

/**
 * Puts runs in any order into shape; runs that touch are joined.
 * Throws MWARP_E_WARP when a run is empty, outside user space or overlaps another, or all exceed `pageLimit`.
 */
export function wantedPages(runs: Iterable<PageRun>, pageLimit = DEFAULT_PAGE_LIMIT): WantedPages {
  const byTask = new Map<number, PageRun[]>();
  let total = 0;
  for (const run of runs) {
    checkRun(run);
    total += run.pages;
    if (total > pageLimit)
      throw new MwarpError("MWARP_E_WARP", `more than ${pageLimit} pages are asked to move`);
    const list = byTask.get(run.nsPid);
    if (list === undefined) byTask.set(run.nsPid, [run]);
    else list.push(run);
  }
  const pids = [...byTask.keys()].sort((a, b) => a - b);
  return { tasks: pids.map((nsPid) => taskPages(nsPid, byTask.get(nsPid) ?? [])), total: pageCount(total) };
}

/** The wanted pages whose position `include` accepts, as runs: what has to be faulted in before the next try. */
export function selectRuns(wanted: WantedPages, include: (position: number) => boolean): PageRun[] {
  const selected: PageRun[] = [];
  let position = 0;
  for (const task of wanted.tasks) {
    for (let run = 0; run < task.pages.length; run++) {
      let open = -1;
      const pages = task.pages[run];
      for (let page = 0; page <= pages; page++) {
        const wants = page < pages && include(position + page);
        if (wants && open < 0) open = page;
        if (!wants && open >= 0) {
          selected.push({ nsPid: task.nsPid, page: task.startPage[run] + open, pages: page - open });
          open = -1;
        }
      }
      position += pages;
    }
  }
  return selected;
}

/** All of `wanted` as plain runs, as the agent protocol takes them. */
export function toRuns(wanted: WantedPages): PageRun[] {
  return wanted.tasks.flatMap((task) =>
    Array.from(task.pages, (pages, run) => ({ nsPid: task.nsPid, page: task.startPage[run], pages })),
  );
}

/** Those of `wanted` that are in none of `without`: pages that will be delivered in another way leave the table so. */
export function subtractRuns(wanted: WantedPages, without: readonly PageRun[]): WantedPages {
  const kept: PageRun[] = [];
  const excluded = wantedPages(without);
  for (const task of wanted.tasks) {
    const holes = excluded.tasks.find((other) => other.nsPid === task.nsPid);
    let hole = 0;
    for (let run = 0; run < task.pages.length; run++) {
      let page = task.startPage[run];
      const end = page + task.pages[run];
      while (holes !== undefined && hole < holes.pages.length) {
        const holeStart = holes.startPage[hole];
        const holeEnd = holeStart + holes.pages[hole];
        if (holeStart >= end) break;
        if (holeStart > page) kept.push({ nsPid: task.nsPid, page, pages: holeStart - page });
        page = Math.max(page, Math.min(holeEnd, end));
        if (holeEnd > end) break;
        hole++;
      }
      if (page < end) kept.push({ nsPid: task.nsPid, page, pages: end - page });
    }
  }
  return wantedPages(kept);
}

function checkRun(run: PageRun): void {
  const sound =
    Number.isSafeInteger(run.page) &&
    Number.isSafeInteger(run.pages) &&
    run.page >= 0 &&
    run.pages > 0 &&
    run.page + run.pages <= END_OF_USER_PAGES;
  if (!sound)
    throw new MwarpError("MWARP_E_WARP", `task ${run.nsPid}: bad page run ${run.page}+${run.pages}`);
}

function taskPages(nsPid: number, runs: PageRun[]): TaskPages {
  runs.sort((a, b) => a.page - b.page);
  const start = new Float64Array(runs.length);
  const length = new Uint32Array(runs.length);
  let count = 0;
  let end = -1;
  let total = 0;
  for (const run of runs) {
    if (run.page < end) {
      throw new MwarpError("MWARP_E_WARP", `task ${nsPid}: page runs overlap at page ${run.page}`);
    }
    if (run.page === end) length[count - 1] += run.pages;
    else {
      start[count] = run.page;
      length[count] = run.pages;
      count++;
    }
    end = run.page + run.pages;
    total += run.pages;
  }
  return { nsPid, startPage: start.slice(0, count), pages: length.slice(0, count), total: pageCount(total) };
}

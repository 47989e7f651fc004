/** Decides for each page a task's pagemap lists whether it is kept, filled or wanted (see skeleton.ts), and checks the files. */
import { MwarpError } from "../errors.js";
import type { PageRun } from "../protocol/agent.js";
import { PAGE_BYTES } from "../units.js";
import { countPages } from "./fill.js";
import { imageError } from "./image.js";
import { decodePagemap, type Pagemap } from "./pagemap.js";
import { type DumpedTask, type ImageFiles, type Mapping, requireFile } from "./tasks.js";

/** An entry of the new pagemap: one that stays as it came, or one whose bytes are read from the task. */
export type Piece =
  | { readonly kind: "keep"; readonly pages: number; readonly record: Uint8Array }
  | { readonly kind: "fill"; readonly page: number; readonly pages: number };

export interface TaskPlan {
  readonly nsPid: number;
  readonly task: DumpedTask;
  readonly pagemap: Pagemap;
  readonly pagesName: string;
  /** In the order of their addresses. */
  readonly pieces: readonly Piece[];
  readonly wanted: readonly PageRun[];
}

const PAGEMAP_NAME = /^pagemap-([0-9]+)\.img$/;
const SHMEM_PAGEMAP_NAME = /^pagemap-shmem-[0-9]+\.img$/;
/** Bytes of all pages files: they are held in memory on the host and lie on tmpfs in the guest. */
const MAX_PAGES_BYTES = 2 ** 31;

/**
 * Plans all tasks that have memory.
 * @throws MWARP_E_IMAGE, MWARP_E_UNSUPPORTED when more than fits an image would have to be copied.
 */
export function planTasks(files: ImageFiles, tasks: readonly DumpedTask[]): TaskPlan[] {
  const plans = tasks.flatMap((task) =>
    task.mappings === null ? [] : [planTask(files, task, task.mappings)],
  );
  for (const plan of plans) checkPages(files, plan);
  checkVolume(plans);
  checkOwners(files, plans);
  return plans;
}

/** Names of the files with pages of tasks, which are rewritten; those with shared memory are not. */
export function taskPagesFiles(files: ImageFiles): ReadonlySet<string> {
  const pagemaps = [...files].filter(([name]) => PAGEMAP_NAME.test(name));
  return new Set(pagemaps.map(([name, bytes]) => `pages-${decodePagemap(name, bytes).pagesId}.img`));
}

function planTask(files: ImageFiles, task: DumpedTask, mappings: readonly Mapping[]): TaskPlan {
  const { nsPid } = task;
  const name = `pagemap-${nsPid}.img`;
  const pagemap = decodePagemap(name, requireFile(files, name));
  const pieces: Piece[] = [];
  const wanted: PageRun[] = [];
  let at = 0;
  for (const run of pagemap.runs) {
    if (run.present) {
      pieces.push({ kind: "keep", pages: run.pages, record: run.record });
      continue;
    }
    const runEnd = run.page + run.pages;
    for (let page = run.page; page < runEnd; ) {
      while (at < mappings.length && mappings[at]!.endPage <= page) at++;
      const mapping = mappings[at];
      if (mapping === undefined || mapping.page > page)
        throw imageError(name, `page ${page} lies in no mapping`);
      const pages = Math.min(mapping.endPage, runEnd) - page;
      if (mapping.warpable) appendRun(wanted, { nsPid, page, pages });
      else pieces.push({ kind: "fill", page, pages });
      page += pages;
    }
  }
  keepOneEntry(pieces, wanted);
  return { nsPid, task, pagemap, pagesName: `pages-${pagemap.pagesId}.img`, pieces, wanted };
}

function appendRun(runs: PageRun[], run: PageRun): void {
  const last = runs.at(-1);
  if (last !== undefined && last.page + last.pages === run.page) last.pages += run.pages;
  else runs.push(run);
}

/** CRIU 4.1 reads through a null pointer when a task's pagemap has no entry (premap_priv_vmas in criu/mem.c). */
function keepOneEntry(pieces: Piece[], wanted: PageRun[]): void {
  const first = wanted[0];
  if (pieces.length > 0 || first === undefined) return;
  pieces.push({ kind: "fill", page: first.page, pages: 1 });
  if (first.pages === 1) wanted.shift();
  else wanted[0] = { nsPid: first.nsPid, page: first.page + 1, pages: first.pages - 1 };
}

/** CRIU's restorer reads for ever when a pages file is shorter than its pagemap says. */
function checkPages(files: ImageFiles, { pieces, pagesName }: TaskPlan): void {
  const kept = countPages(pieces.filter((piece) => piece.kind === "keep"));
  const bytes = requireFile(files, pagesName).length;
  if (bytes !== kept * PAGE_BYTES) {
    throw imageError(pagesName, `${bytes} bytes, but its pagemap lists ${kept} pages as present`);
  }
}

function checkVolume(plans: readonly TaskPlan[]): void {
  const bytes = countPages(plans.flatMap((plan) => plan.pieces)) * PAGE_BYTES;
  if (bytes <= MAX_PAGES_BYTES) return;
  const mib = Math.ceil(bytes / 2 ** 20);
  throw new MwarpError(
    "MWARP_E_UNSUPPORTED",
    `${mib} MiB of read-only or file mappings would have to be copied`,
    {
      hint: "Use --method cold for this container.",
    },
  );
}

/** No two pagemaps may share a pages file, none may belong to no task, and none may be left that needs a parent. */
function checkOwners(files: ImageFiles, plans: readonly TaskPlan[]): void {
  const pids = new Set(plans.map((plan) => plan.nsPid));
  const pagesIds = new Set(plans.map((plan) => plan.pagemap.pagesId));
  if (pagesIds.size !== plans.length) throw imageError("pagemap", "two tasks share a pages file");
  for (const [name, bytes] of files) {
    const task = PAGEMAP_NAME.exec(name);
    if (task !== null && !pids.has(Number(task[1]))) throw imageError(name, "belongs to no task with memory");
    if (!SHMEM_PAGEMAP_NAME.test(name)) continue;
    const { pagesId, runs } = decodePagemap(name, bytes);
    if (pagesIds.has(pagesId)) throw imageError(name, "shares its pages file");
    pagesIds.add(pagesId);
    if (runs.some((run) => !run.present))
      throw imageError(name, "shared memory whose pages are not in the dump");
  }
}

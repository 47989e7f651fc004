/** Pages that a stun found missing, and the three ways in which page contents reach or leave a guest through its agent. */
import { MwarpError } from "../../errors.js";
import type { PageRun } from "../../protocol/agent.js";
import { PAGE_BYTES } from "../../units.js";
import { subtractRuns, toRuns, type WantedPages, wantedPages } from "../../warp/page-ranges.js";
import { ChunkCollector, inChunks } from "../chunks.js";
import type { MissingPages } from "../stun.js";
import { limits, type StepContext } from "./common.js";

/** Stuns that end, or do not begin, because a page is missing, before those pages are delivered as bytes. */
export const MAX_REFAULTS = 3;
/** Keeps a request of a sparse address space well below the channel's MAX_FRAME_BYTES. */
const MAX_RUNS_PER_REQUEST = 20_000;
/** 32 MiB of page contents. */
const PORTION_PAGES = 8_192;

/** Contents of pages of the frozen source, in the order of the runs. */
export async function readPages(context: StepContext, runs: readonly PageRun[]): Promise<Uint8Array> {
  const collector = new ChunkCollector(runs.reduce((sum, run) => sum + run.pages, 0) * PAGE_BYTES);
  await context.checked.sourceAgent.call(
    "source.readPages",
    { migration: context.id, runs: [...runs] },
    { signal: context.signal, timeoutMs: limits.transfer, onChunk: collector.onChunk },
  );
  return collector.take();
}

/** Faults pages in on the destination. Never after an exchange: it would destroy data. */
export async function populateRuns(context: StepContext, runs: readonly PageRun[]): Promise<void> {
  for (let at = 0; at < runs.length; at += MAX_RUNS_PER_REQUEST) {
    await context.checked.destinationAgent.call(
      "destination.populate",
      { migration: context.id, runs: runs.slice(at, at + MAX_RUNS_PER_REQUEST) },
      { signal: context.signal, timeoutMs: limits.restore },
    );
  }
}

/**
 * Makes up for missing pages. The destination's are faulted in; what the source has not in memory (swapped out), and what
 * the destination lost again and again, is delivered as bytes and leaves the table.
 */
export async function supplyMissing(
  context: StepContext,
  missing: MissingPages,
  wanted: WantedPages,
  attempt: number,
): Promise<WantedPages> {
  const asBytes = attempt < MAX_REFAULTS ? missing.source : [...missing.source, ...missing.destination];
  const count = (runs: readonly PageRun[]): number => runs.reduce((sum, run) => sum + run.pages, 0);
  context.onNote(
    `${count(missing.destination)} page(s) missing on the destination, ${count(missing.source)} on the source; trying again`,
  );
  if (asBytes.length === 0) {
    await populateRuns(context, missing.destination);
    return wanted;
  }
  const delivered = toRuns(wantedPages(dedupe(asBytes)));
  for (const portion of portions(delivered)) await deliver(context, portion);
  context.tally.copiedPages += count(delivered);
  return subtractRuns(wanted, delivered);
}

async function deliver(context: StepContext, runs: PageRun[]): Promise<void> {
  const bytes = await readPages(context, runs);
  const expected = runs.reduce((sum, run) => sum + run.pages, 0) * PAGE_BYTES;
  if (bytes.length !== expected)
    throw new MwarpError("MWARP_E_PROTOCOL", `${bytes.length} bytes came for pages of ${expected}`);
  await context.checked.destinationAgent.call(
    "destination.writePages",
    { migration: context.id, runs },
    { signal: context.signal, timeoutMs: limits.transfer, up: inChunks([bytes]) },
  );
}

/** Cuts runs into lists of at most PORTION_PAGES pages each: what the daemon holds in memory at a time. */
function* portions(runs: readonly PageRun[]): Generator<PageRun[]> {
  let portion: PageRun[] = [];
  let room = PORTION_PAGES;
  for (const { nsPid, page, pages } of runs) {
    for (let done = 0; done < pages; ) {
      const take = Math.min(room, pages - done);
      portion.push({ nsPid, page: page + done, pages: take });
      done += take;
      room -= take;
      if (room > 0) continue;
      yield portion;
      portion = [];
      room = PORTION_PAGES;
    }
  }
  if (portion.length > 0) yield portion;
}

/** Page runs in which each page stands once, whatever overlaps in the input. */
function dedupe(runs: readonly PageRun[]): PageRun[] {
  const sorted = [...runs].sort((a, b) => a.nsPid - b.nsPid || a.page - b.page);
  const result: PageRun[] = [];
  for (const run of sorted) {
    const last = result.at(-1);
    const end = run.page + run.pages;
    if (last !== undefined && last.nsPid === run.nsPid && run.page < last.page + last.pages) {
      last.pages = Math.max(last.page + last.pages, end) - last.page;
    } else result.push({ ...run });
  }
  return result;
}

/** Reads pages of the frozen tasks in portions, so that neither the request nor the answer outgrows the agent's channel. */
import { MwarpError } from "../errors.js";
import type { PageRun } from "../protocol/agent.js";
import { PAGE_BYTES } from "../units.js";

/** Reads pages of the frozen tasks: the bytes of the runs, in order, and nothing else. */
export type ReadPages = (runs: PageRun[]) => Promise<Uint8Array>;

/** Runs of one request: about 300 KiB of JSON. */
const MAX_REQUEST_RUNS = 8192;
/** Pages of one request: 32 MiB. */
const MAX_REQUEST_PAGES = 8192;

/**
 * The bytes of all `runs`, in order.
 * @throws MWARP_E_IMAGE when an answer has another length than asked for; whatever `readPages` throws.
 */
export async function readRuns(runs: readonly PageRun[], readPages: ReadPages): Promise<Uint8Array> {
  const bytes = new Uint8Array(countPages(runs) * PAGE_BYTES);
  let at = 0;
  for (const request of requests(runs)) {
    const answer = await readPages(request);
    const expected = countPages(request) * PAGE_BYTES;
    if (answer.length !== expected) {
      throw new MwarpError(
        "MWARP_E_IMAGE",
        `asked the source for ${expected} bytes of pages, got ${answer.length}`,
      );
    }
    bytes.set(answer, at);
    at += expected;
  }
  return bytes;
}

export const countPages = (runs: readonly { readonly pages: number }[]): number =>
  runs.reduce((sum, { pages }) => sum + pages, 0);

function* requests(runs: readonly PageRun[]): Generator<PageRun[]> {
  let request: PageRun[] = [];
  let room = MAX_REQUEST_PAGES;
  for (const run of runs) {
    for (let done = 0; done < run.pages; ) {
      const pages = Math.min(run.pages - done, room);
      request.push({ nsPid: run.nsPid, page: run.page + done, pages });
      done += pages;
      room -= pages;
      if (room > 0 && request.length < MAX_REQUEST_RUNS) continue;
      yield request;
      request = [];
      room = MAX_REQUEST_PAGES;
    }
  }
  if (request.length > 0) yield request;
}

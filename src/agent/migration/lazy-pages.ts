/**
 * Post-copy on the destination: `criu lazy-pages` fetches the pages of the restored tasks, those first that they ask for.
 *
 * Between the tasks and a page that is missing stands a userfaultfd. When its last holder closes it, the kernel gives zeros for
 * what is missing, and the tasks would go on with them. So CRIU runs under a keeper (native/guest/lazy.c) that holds the
 * userfaultfds, too, and ends the container when CRIU failed, before it lets go.
 */
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { MwarpError } from "../../errors.js";
import type { PageServer } from "../../protocol/agent.js";
import { exists, readIfThere, readNumber } from "../files.js";
import { jobRuns, jobStatus, startKeeper } from "../job.js";
import { log } from "../log.js";
import type { MigrationPaths } from "../paths.js";
import { pollUntil } from "../process.js";
import { isConnectedTo } from "../tcp-port.js";
import { lazySocket } from "./command-lines.js";
import { failureDetails } from "./criu-log.js";

const START_MS = 10_000;
const HOLD_MS = 10_000;
/** For the connection to the source, too. */
const ASK_MS = 10_000;
/** For all pages to come, ms; a call that waits longer is repeated. */
const FETCH_MS = 240_000;
/** A fetch takes seconds, and whoever looks every 20 ms has a fifth of an emulated processor that CRIU and the container need. */
const FETCH_LOOK_MS = 100;

export async function startLazyPages(
  paths: MigrationPaths,
  cgroup: string,
  command: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const socket = lazySocket(paths);
  await rm(socket, { force: true });
  await startKeeper(paths.lazyPages, cgroup, command);
  await pollUntil(
    "starting criu lazy-pages",
    async () => {
      if ((await jobStatus(paths.lazyPages)) !== null) throw await failed(paths);
      return (await exists(socket)) ? true : null;
    },
    { timeoutMs: START_MS, everyMs: 10, signal },
  );
}

/**
 * Once the tasks are restored: the keeper takes hold of what they fault through. `MWARP_E_RESTORE` when CRIU has failed. Of a small
 * container all pages may have come by now: CRIU starts to fetch before its pre-resume hook.
 */
export async function holdFaults(paths: MigrationPaths, signal: AbortSignal): Promise<void> {
  await writeFile(join(paths.lazyPages, "hold"), "");
  await pollUntil(
    "the hold on the missing pages",
    async () => {
      const status = await jobStatus(paths.lazyPages);
      if (status === 0) return true;
      if (status !== null) throw await failed(paths);
      return (await readIfThere(join(paths.lazyPages, "held"))) === null ? null : true;
    },
    { timeoutMs: HOLD_MS, signal },
  );
}

/** Whether pages will never come; the keeper has ended the tasks then, or is about to. */
export async function fetchFailed(paths: MigrationPaths): Promise<boolean> {
  if (await exists(join(paths.lazyPages, "failed"))) return true;
  return (await exists(paths.lazyPages)) && ((await jobStatus(paths.lazyPages)) ?? 0) !== 0;
}

/**
 * `MWARP_E_RESTORE` when the fetching has failed by now: the keeper is asked, as it is the first to know. A CRIU that lives may
 * still have no connection: it makes one when it has the userfaultfds, and the restore does not wait for it (criu/uffd.c,
 * cr_lazy_pages).
 */
export async function fetchesOrHasAll(
  paths: MigrationPaths,
  source: PageServer,
  signal: AbortSignal,
): Promise<void> {
  const ask = join(paths.lazyPages, "ask");
  await writeFile(ask, "");
  await pollUntil(
    "the keeper's word",
    async () => {
      if (await fetchFailed(paths)) throw await failed(paths);
      if ((await jobStatus(paths.lazyPages)) === 0) return true;
      return !(await exists(ask)) && (await isConnectedTo(source.address, source.port)) ? true : null;
    },
    { timeoutMs: ASK_MS, signal },
  );
}

/** How the fetching of pages ended: all came, or why some never will. Null when it was never begun. */
export async function fetched(
  paths: MigrationPaths,
  source: "there" | "gone",
  signal: AbortSignal,
): Promise<{ readonly lost: string } | null> {
  if (!(await exists(paths.lazyPages))) return null;
  if (source === "gone" && (await jobRuns(paths.lazyPages))) {
    // The keeper ends the container first: its tasks wait for pages and must not get zeros.
    await writeFile(join(paths.lazyPages, "give-up"), "");
  }
  const status = await pollUntil("the last page", () => jobStatus(paths.lazyPages), {
    timeoutMs: FETCH_MS,
    everyMs: FETCH_LOOK_MS,
    signal,
  });
  if (status === 0) return null;
  const { details } = await failed(paths);
  log("error", `pages that never came: ${details.join("; ")}`);
  return {
    lost: source === "gone" ? "the source VM ended before its last page had come" : details.join("; "),
  };
}

async function failed(paths: MigrationPaths): Promise<MwarpError> {
  const status = (await readNumber(join(paths.lazyPages, "failed"))) ?? (await jobStatus(paths.lazyPages));
  const details = await failureDetails(paths.lazyPages, join(paths.work, "lazy-pages.log"));
  return new MwarpError("MWARP_E_RESTORE", `criu lazy-pages ended with ${status}`, { details });
}

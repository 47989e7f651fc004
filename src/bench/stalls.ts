/** One migration of a container that is busy with its pages: how long each page takes when it is first accessed after it. */
import { loadavg } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { MwarpError } from "../errors.js";
import type { BenchContainer } from "./container.js";
import type { SeenStalls } from "./control.js";
import { type MeasureContext, otherVm, requireCommitted } from "./measure.js";
import { migrate } from "./migrate.js";
import type { Cell, StallRecord } from "./records.js";

/** Before the command: the load is there when the move begins. */
const LOADED_MS = 1000;
/** After the migration has ended, for pages that were not accessed by then. */
const LIMIT_MS = 60_000;
const POLL_MS = 250;

type BusyContainer = Pick<BenchContainer, "name" | "vm" | "renew" | "load" | "stalls" | "rest" | "verify">;

/**
 * As measureMigration, with the container's own thread at work from before the command on.
 * @throws what kept the migration from being committed; MWARP_E_TIMEOUT when not every page was accessed after it
 */
export async function measureStalls(
  { daemon, lab, signal }: MeasureContext,
  container: BusyContainer,
  cell: Cell,
  round: number,
): Promise<StallRecord> {
  await container.renew(signal);
  await container.load(signal);
  await sleep(LOADED_MS, undefined, { signal });
  const to = otherVm(lab, container.vm);
  const load = loadavg()[0];
  const { method, backend, strategy } = cell;
  const move = { container: container.name, to, method, backend, strategy };
  const report = await migrate(daemon, move, signal);
  requireCommitted(report);
  container.vm = to;
  const { moved: _moved, touched: _touched, ...stalls } = await untilTouched(container, LIMIT_MS, signal);
  await container.rest(signal);
  const { wrong } = await container.verify(signal);
  return { kind: "stalls", cell, round, load, report, stalls, verified: wrong === 0 };
}

/** @throws MWARP_E_TIMEOUT when the container's thread has not accessed every page since the move within `limitMs` */
export async function untilTouched(
  container: Pick<BusyContainer, "stalls">,
  limitMs: number,
  signal: AbortSignal,
): Promise<SeenStalls> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    const seen = await container.stalls(signal);
    if (seen.moved && seen.touched === seen.pages) return seen;
    if (performance.now() >= deadline) {
      const what = seen.moved
        ? `accessed ${seen.touched} of ${seen.pages} pages`
        : "not noticed that it was moved";
      const after = `${Math.round(limitMs / 1000)} s after the migration`;
      throw new MwarpError("MWARP_E_TIMEOUT", `${after} the container has ${what}`);
    }
    await sleep(POLL_MS, undefined, { signal });
  }
}

/**
 * Ends a stun whose daemon is gone, by the journal's word alone: what was not committed is put back, then both VMs go on.
 * What is left of the migration (thaw one side, clear the other) is recovery's, when a daemon is there again.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { toMwarpError } from "../errors.js";
import { withLock } from "../lock.js";
import { isAlive } from "../vm/process.js";
import { ensureRunning } from "../vm/run-state.js";
import { type ExchangedVm, takeBackExchange } from "./exchange-recovery.js";
import { Journal, type JournalContents, readJournal } from "./journal.js";

/** How long recovery waits for a helper that ends the stun, ms: longer than that takes. */
const WAIT_MS = 120_000;
const TRIES = 10;
const PAUSE_MS = 500;

/** Only one process at a time finishes what another left; the lock goes with its holder. */
export const withJournal = <T>(
  journalPath: string,
  signal: AbortSignal | undefined,
  action: () => Promise<T>,
): Promise<T> =>
  withLock(
    "journal",
    journalPath,
    { waitMs: WAIT_MS, signal, busy: "the migration's stun is being ended" },
    action,
  );

export interface StunnedVms {
  readonly source: ExchangedVm;
  readonly destination: ExchangedVm;
}

/**
 * @returns what was found and done, one line
 * @throws MWARP_E_NEEDS_RECOVERY when memory could not be brought back: the VMs stay paused then
 */
export function endStun(journalPath: string, vms: StunnedVms, signal: AbortSignal): Promise<string> {
  return withJournal(journalPath, signal, async () => {
    const contents = readJournal(journalPath);
    if (contents === null) return "nothing was begun";
    const { state, exchanging } = contents;
    // Another state: the stun was over, or recovery has been here. VMs that are paused now are somebody else's.
    if (state !== "populated" && state !== "committed") return `the migration was ${state}: no stun to end`;
    const source = alive(vms.source);
    const destination = alive(vms.destination);
    if (state === "populated" && exchanging)
      await persistently(() => takeBackExchange(journalPath, source, destination, signal), signal);
    await persistently(() => goOn([source, destination], signal), signal);
    if (state === "committed") return "committed: both VMs go on";
    const done = exchanging ? "every frame was put back, both VMs go on" : "both VMs go on";
    // Last: a full disk keeps no VM paused. Without `committed` the source has the container in any case.
    const unwritten = writeAborting(journalPath, contents);
    return unwritten === null ? done : `${done}; ${unwritten}`;
  });
}

function writeAborting(journalPath: string, contents: JournalContents): string | null {
  try {
    const journal = Journal.reopen(journalPath, contents);
    try {
      journal.enter("aborting", "the daemon died in the stun");
    } finally {
      journal.close();
    }
    return null;
  } catch (error) {
    return toMwarpError(error).message;
  }
}

const alive = (vm: ExchangedVm): ExchangedVm | null => (isAlive(vm.endpoint) ? vm : null);

/** Both are tried, whatever becomes of the other. */
async function goOn(vms: readonly (ExchangedVm | null)[], signal: AbortSignal): Promise<void> {
  const living = vms.filter((vm) => vm !== null);
  const ends = await Promise.allSettled(living.map(({ endpoint }) => ensureRunning(endpoint, signal)));
  const failure = ends.find((end) => end.status === "rejected");
  if (failure !== undefined) throw failure.reason;
}

/**
 * Tries again and again, with the lock held all the while: a VMM's doors are still closing behind the dead daemon, or it is
 * busy with that one's last command.
 */
async function persistently(action: () => Promise<void>, signal: AbortSignal): Promise<void> {
  for (let left = TRIES - 1; ; left--) {
    try {
      return await action();
    } catch (error) {
      if (left === 0 || signal.aborted) throw toMwarpError(error);
      await sleep(PAUSE_MS);
    }
  }
}

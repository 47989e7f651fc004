/**
 * Settles, in the background, what migrations have left: at the daemon's start what an earlier daemon left, later what could
 * be neither committed nor rolled back to its end. What cannot be settled yet, because a VM or an agent does not answer, is
 * tried again until it is, or until somebody else has done it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { RecoveryAction } from "../protocol/api.js";
import type { DaemonLog } from "./ports.js";

/** Between two tries, ms. */
const LONGEST_RETRY_MS = 60_000;

export class Recoverer {
  readonly #recover: (signal: AbortSignal) => Promise<RecoveryAction[]>;
  readonly #firstRetryMs: number;
  readonly #log: DaemonLog;
  readonly #stopping = new AbortController();
  #running: Promise<void> | null = null;
  #again = false;

  /** @param firstRetryMs before the second try; longer before each further one */
  constructor(
    recover: (signal: AbortSignal) => Promise<RecoveryAction[]>,
    firstRetryMs: number,
    log: DaemonLog,
  ) {
    this.#recover = recover;
    this.#firstRetryMs = firstRetryMs;
    this.#log = log;
  }

  /** Begins at once, before it returns; while it is at work, once more afterwards. */
  kick(): void {
    if (this.#running !== null) {
      this.#again = true;
      return;
    }
    this.#running = this.#work().finally(() => {
      this.#running = null;
      if (!this.#again || this.#stopping.signal.aborted) return;
      this.#again = false;
      this.kick();
    });
  }

  [Symbol.dispose](): void {
    this.#stopping.abort();
  }

  async #work(): Promise<void> {
    const stopping = this.#stopping.signal;
    for (let delay = this.#firstRetryMs; !stopping.aborted; delay = Math.min(delay * 2, LONGEST_RETRY_MS)) {
      try {
        const actions = await this.#recover(stopping);
        for (const action of actions) this.#log.warn(action, "recovered a migration that was cut off");
        if (actions.every(({ outcome }) => outcome !== "pending")) return;
      } catch (err) {
        this.#log.error({ err }, "recovery failed; it is tried again");
      }
      await sleep(delay, null, { signal: stopping, ref: false }).catch(() => undefined);
    }
  }
}

/**
 * Runs the steps of one migration against its journal: begin, do, enter the next state; on failure the undo of all that
 * was begun; after the commit only forward. What a step does is in methods/; when, and what undoes it, is in states.ts.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type MwarpError, toMwarpError } from "../errors.js";
import type { Poke } from "../protocol/agent.js";
import type { Phase } from "../protocol/migration.js";
import type { MigrationClock } from "./clock.js";
import { faultPoint, killPoint } from "./faults.js";
import type { Journal } from "./journal.js";
import { type ForwardStepName, forwardSteps, type StepName, steps, type Undo, undoPlan } from "./states.js";
import { Unsettled } from "./unsettled.js";

export type UndoActions = Readonly<Record<Exclude<Undo, "none">, () => Promise<void>>>;

export interface RunnerHooks {
  onPhase(phase: Phase): void;
  onCommitted(): void;
  onNote(message: string): void;
}

/** How long, and how often, a forward step or an undo is tried again before it is left to recovery, ms. */
const RETRY_DELAYS_MS = [0, 100, 500, 2000] as const;

/** How long an undo on one side may keep the other side waiting, ms. */
export const UNDO_PATIENCE_MS = 5_000;

export class StepRunner {
  readonly #journal: Journal;
  readonly #clock: MigrationClock;
  readonly #signal: AbortSignal;
  readonly #hooks: RunnerHooks;
  readonly #begun: StepName[] = [];
  #phase: Phase = "preflight";

  constructor(journal: Journal, clock: MigrationClock, signal: AbortSignal, hooks: RunnerHooks) {
    this.#journal = journal;
    this.#clock = clock;
    this.#signal = signal;
    this.#hooks = hooks;
  }

  /** The phase of the step that runs or ran last: where an error belongs. */
  get phase(): Phase {
    return this.#phase;
  }

  /** See Journal.beginExchange. */
  beginExchange(record: Uint8Array): void {
    this.#journal.beginExchange(record);
  }

  /** See Journal.forgetExchange. */
  forgetExchange(): void {
    this.#note(() => this.#journal.forgetExchange());
  }

  /** See Journal.settleExchange. */
  settleExchange(): void {
    this.#journal.settleExchange();
  }

  get committed(): boolean {
    return ["committed", "resumed", "retired"].includes(this.#journal.state);
  }

  /**
   * A step before the commit. `body` gets `commit`, which only the committing steps call, at the instant from which on
   * the destination owns the container. `pokes` are journaled, as whoever resumes the container must write them.
   */
  async step<T>(name: StepName, body: (commit: () => void) => Promise<T>, pokes?: Poke[]): Promise<T> {
    const { to, phase } = steps[name];
    this.#signal.throwIfAborted();
    this.#enterPhase(phase);
    this.#begun.push(name);
    this.#journal.begin(name, pokes);
    const result = await body(() => {
      this.#commit();
      this.#hooks.onCommitted();
    });
    if (to === "committed") {
      if (this.#journal.state !== "committed") throw new Error(`step ${name} ended without a commit`);
    } else {
      this.#signal.throwIfAborted();
      this.#journal.enter(to);
    }
    killPoint(to);
    await faultPoint(to);
    return result;
  }

  #commit(): void {
    try {
      this.#journal.enter("committed");
    } catch (error) {
      throw Unsettled.mark(error);
    }
  }

  /**
   * A step after the commit: retried, never undone. Returns the last error when it could not be done. A journal that
   * cannot be written holds nothing up here: the step is done, and recovery may do it again.
   */
  async forward(name: ForwardStepName, body: () => Promise<void>): Promise<MwarpError | null> {
    const { to, phase } = forwardSteps[name];
    this.#enterPhase(phase);
    this.#note(() => this.#journal.begin(name));
    const error = await this.#retry(`step ${name}`, body);
    const written = error ?? this.#note(() => this.#journal.enter(to));
    if (written === null && to !== "retired") await faultPoint(to);
    return written;
  }

  /**
   * Rolls back: first the journal's word, then the undo actions. Returns the errors of actions that could not be done;
   * the migration then stays open and recovery finishes it.
   *
   * The destination is cleared first, but a destination that does not answer holds the source up only for a moment: it
   * is frozen by its cgroup, and without `committed` in the journal nobody will ever thaw it. For the same reason the
   * undo runs even when `aborting` cannot be written.
   */
  async rollBack(reason: string, actions: UndoActions): Promise<MwarpError[]> {
    if (this.committed) throw new Error("a committed migration is never rolled back");
    const written = this.#note(() => this.#journal.enter("aborting", reason));
    const undone: Promise<MwarpError | null>[] = [];
    for (const undo of undoPlan(this.#begun)) {
      const done = this.#retry(undo, actions[undo]);
      undone.push(done);
      await Promise.race([done, sleep(UNDO_PATIENCE_MS, null, { ref: false })]);
    }
    const errors = [written, ...(await Promise.all(undone))].filter((error) => error !== null);
    if (errors.length > 0) return errors;
    const ended = this.#note(() => this.#journal.enter("aborted"));
    return ended === null ? [] : [ended];
  }

  /** The container has ended, and there is nothing left to settle. */
  lose(): void {
    this.#note(() => this.#journal.enter("lost"));
  }

  /** Writes to the journal where a failure must not stop what follows. */
  #note(write: () => void): MwarpError | null {
    try {
      write();
      return null;
    } catch (error) {
      const failure = toMwarpError(error);
      this.#hooks.onNote(failure.message);
      return failure;
    }
  }

  async #retry(what: string, body: () => Promise<void>): Promise<MwarpError | null> {
    let last: MwarpError | null = null;
    for (const delay of RETRY_DELAYS_MS) {
      if (delay > 0) await sleep(delay);
      try {
        await body();
        return null;
      } catch (error) {
        last = toMwarpError(error);
        this.#hooks.onNote(`${what} failed: ${last.message}`);
        if (last.code === "MWARP_E_CONTAINER_LOST") return last;
      }
    }
    return last;
  }

  /** Neighbouring steps of one phase are one phase to whoever watches. */
  #enterPhase(phase: Phase): void {
    if (phase === this.#phase) return;
    this.#phase = phase;
    this.#clock.enter(phase);
    this.#hooks.onPhase(phase);
  }
}

/**
 * A journal as recovery writes it. Whether it can be written decides nothing: by what it says already the owner is known, and
 * is served; what cannot be noted down is done once more later.
 */
import { type MwarpError, toMwarpError } from "../errors.js";
import { Journal, type JournalContents } from "./journal.js";
import { mayFollow, type State } from "./states.js";

export class RecoveryJournal {
  readonly path: string;
  readonly #contents: JournalContents;
  #journal: Journal | null = null;
  #state: State;
  #failure: MwarpError | null = null;

  constructor(path: string, contents: JournalContents) {
    this.path = path;
    this.#contents = contents;
    this.#state = contents.state;
  }

  /** Where the migration is, on disk or not. */
  get state(): State {
    return this.#state;
  }

  /** Why something could not be written; null when all is on disk. */
  get failure(): MwarpError | null {
    return this.#failure;
  }

  enter(state: State): void {
    if (!mayFollow(this.#state, state)) throw new Error(`recovery cannot go from ${this.#state} to ${state}`);
    this.#state = state;
    if (this.#failure !== null) return;
    try {
      this.#journal ??= Journal.reopen(this.path, this.#contents);
      this.#journal.enter(state, "recovered");
    } catch (error) {
      this.#failure = toMwarpError(error);
    }
  }

  close(): void {
    this.#journal?.close();
  }
}

/** The events of one migration: kept from the start, so that a late listener sees all of them. */
import type { MigrationEvent } from "../protocol/migration.js";

type Listener = (event: MigrationEvent) => void;

export class EventLog {
  readonly #events: MigrationEvent[] = [];
  readonly #listeners = new Set<Listener>();

  emit(event: MigrationEvent): void {
    this.#events.push(event);
    for (const listener of this.#listeners) listener(event);
  }

  /** Replays what was, then delivers what comes. Returns the function that ends it. */
  subscribe(listener: Listener): () => void {
    for (const event of this.#events) listener(event);
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** The journals of all migrations: `<stateDir>/migrations/<id>/journal`. Kept after the end: they are the audit trail. */
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { type JournalHead, readJournal } from "./journal.js";
import { isTerminal } from "./states.js";

/** A migration that has not come to its end, as far as its journal can be read. */
export interface OpenMigration {
  readonly id: string;
  /** Null when the journal is damaged. */
  readonly head: JournalHead | null;
}

export class JournalStore {
  readonly directory: string;
  /** Ids of migrations that have come to their end: that does not change. */
  readonly #ended = new Set<string>();

  constructor(stateDir: string) {
    this.directory = path.join(stateDir, "migrations");
  }

  migrationDirectory(id: string): string {
    return path.join(this.directory, id);
  }

  path(id: string): string {
    return path.join(this.migrationDirectory(id), "journal");
  }

  /** Ids of all migrations that got as far as a journal, oldest first (ids sort by time). */
  ids(): string[] {
    if (!existsSync(this.directory)) return [];
    return readdirSync(this.directory)
      .filter((id) => existsSync(this.path(id)))
      .sort();
  }

  /** Every migration that has not come to its end, those that run now among them. */
  open(): OpenMigration[] {
    const found: OpenMigration[] = [];
    for (const id of this.ids()) {
      if (this.#ended.has(id)) continue;
      if (isOpen(this.path(id))) found.push({ id, head: headOf(this.path(id)) });
      else this.#ended.add(id);
    }
    return found;
  }
}

/** Whether a migration has not come to its end; one whose journal cannot be read has not. */
export function isOpen(path: string): boolean {
  try {
    const contents = readJournal(path);
    return contents !== null && !isTerminal(contents.state);
  } catch {
    return true;
  }
}

function headOf(path: string): JournalHead | null {
  try {
    return readJournal(path)?.head ?? null;
  } catch {
    // Damaged: isOpen counts it as open for the same reason.
    return null;
  }
}

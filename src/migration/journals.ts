/** The journals of all migrations: `<stateDir>/migrations/<id>/journal`. Kept after the end: they are the audit trail. */
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { readJournal } from "./journal.js";
import { isTerminal } from "./states.js";

export class JournalStore {
  readonly directory: string;

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

/** Records of migrations that outlive the daemon: one JSON file each, written whole. */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { type MigrationRecord, MigrationRecordSchema } from "../protocol/api.js";
import type { DaemonLog } from "./ports.js";

/** Records kept; the oldest go first. */
export const HISTORY_LIMIT = 1000;

export class History {
  readonly #directory: string;
  readonly #log: DaemonLog;
  readonly #records = new Map<string, MigrationRecord>();

  /** Loads what is there. A migration that an earlier daemon left running becomes `interrupted`. */
  constructor(directory: string, log: DaemonLog) {
    this.#directory = directory;
    this.#log = log;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const loaded: MigrationRecord[] = [];
    for (const name of readdirSync(directory).filter((file) => file.endsWith(".json"))) {
      try {
        loaded.push(
          MigrationRecordSchema.parse(JSON.parse(readFileSync(path.join(directory, name), "utf8"))),
        );
      } catch (err) {
        log.warn({ err, name }, "a migration record cannot be read; it is left out of the history");
      }
    }
    loaded.sort((a, b) => a.startedAt.localeCompare(b.startedAt));
    for (const record of loaded) {
      this.#records.set(record.id, record);
      if (record.state === "running") this.save({ ...record, state: "interrupted" });
    }
  }

  /** Oldest first. */
  list(): MigrationRecord[] {
    return [...this.#records.values()];
  }

  get(id: string): MigrationRecord | undefined {
    return this.#records.get(id);
  }

  /**
   * Adds or replaces, in memory and on disk. A full disk is logged and not thrown: what became of the migration does not
   * depend on whether it could be filed, and its journal says it too.
   */
  save(record: MigrationRecord): void {
    this.#records.set(record.id, record);
    const file = this.#file(record.id);
    const draft = `${file}.new`;
    try {
      writeFileSync(draft, JSON.stringify(record), { mode: 0o600 });
      renameSync(draft, file);
      this.#trim();
    } catch (err) {
      this.#log.error({ err, id: record.id }, "a migration record could not be written");
    }
  }

  #trim(): void {
    for (const [id, record] of this.#records) {
      if (this.#records.size <= HISTORY_LIMIT) return;
      if (record.state !== "done") continue;
      this.#records.delete(id);
      rmSync(this.#file(id), { force: true });
    }
  }

  #file(id: string): string {
    return path.join(this.#directory, `${id}.json`);
  }
}

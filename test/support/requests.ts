/** Migration requests as the command line makes them, and the head of the journal that one gets. */
import type { MigrationRequest } from "../../src/protocol/migration.js";

/** `mwarp migrate web --to vm-b`, but for what is changed. */
export const moveWeb = (changes: Partial<MigrationRequest> = {}): MigrationRequest => ({
  container: "web",
  to: "vm-b",
  method: "warp",
  backend: "auto",
  strategy: "auto",
  dryRun: false,
  timeoutMs: null,
  maxDowntimeMs: null,
  onTimeout: "cancel",
  maxStunMs: null,
  ...changes,
});

/** But for the method. */
export const journalHead = {
  id: "abc-123456",
  container: "web",
  from: "vm-a",
  to: "vm-b",
  vms: { from: { pid: 1, startTime: "1" }, to: { pid: 2, startTime: "2" } },
} as const;

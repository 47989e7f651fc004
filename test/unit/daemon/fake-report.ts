/** What a migration that went well reports. */
import {
  type MigrationReport,
  type MigrationRequest,
  NO_DOWNTIME,
  NO_STUN,
} from "../../../src/protocol/migration.js";

export function report(
  id: string,
  request: MigrationRequest,
  changes: Partial<MigrationReport> = {},
): MigrationReport {
  const phases = {
    preflight: 5,
    prepare: 100,
    dump: 9,
    transfer: 0,
    restore: 26,
    populate: 0,
    warp: 3,
    resume: 3,
    retire: 1,
  };
  return {
    id,
    container: request.container,
    from: "vm-a",
    to: request.to,
    method: request.method,
    backend: "remap",
    strategy: null,
    outcome: "committed",
    error: null,
    startedAt: "2026-01-01T00:00:00.000Z",
    time_ms: { total: 312, downtime: 41, downtime_parts: NO_DOWNTIME, phases },
    stun_ms: { times: 1, source: 5, destination: 6, parts: NO_STUN },
    memory: {
      bytes: 1 << 30,
      pages: 262_144,
      remapped_pages: 262_144,
      copied_pages: 0,
      shared_pages: 0,
      image_bytes: 1000,
      warped_image_bytes: 0,
      remapped_image_pages: 0,
      copied_image_pages: 0,
      channel_bytes: 2000,
      network_bytes: 0,
      extents: 12,
      staged_pages: 0,
      handed_pages: 0,
    },
    files: { first_bytes: 0, final_bytes: 0 },
    rounds: [],
    commands: [],
    ...changes,
  };
}

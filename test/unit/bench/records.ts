/** Records as a run would write them. */

import { makePlan } from "../../../src/bench/plan.js";
import type {
  ApplicationCell,
  Backing,
  BenchRecord,
  Cell,
  FailureRecord,
  MigrationRecord,
  NetworkRecord,
  RunRecord,
} from "../../../src/bench/records.js";
import { NO_DOWNTIME, NO_STUN, phases } from "../../../src/protocol/migration.js";

export const network = (backing: Backing, round: number): NetworkRecord => ({
  kind: "network",
  backing,
  round,
  from: "vm-a",
  to: "vm-b",
  bytes: 256 * 1024 ** 2,
  time_ms: 1000,
});

export const crossover = (host_page_bytes: number, round: number): BenchRecord => ({
  kind: "crossover",
  round,
  host_page_bytes,
  pages: 32_768,
  run_pages: 512,
  remap_ms: 1,
  touch_ms: 2,
  copy_ms: 4,
});

export const application = (cell: ApplicationCell, round: number): BenchRecord => ({
  kind: "application",
  ...cell,
  round,
  load: 0.5,
  client: "GET and SET",
  interval_ms: 250,
  samples: [],
  operations: 90,
  expected_operations: 100,
  faults: { connections_lost: 0, wrong_answers: 0 },
  report: migration(
    { ...cell, pages: "thp", size: 4096, processes: 1, write_share: 0, backend: "auto", strategy: "auto" },
    round,
  ).report,
});

export const failure = (what: string): FailureRecord => ({
  kind: "failure",
  what,
  round: 0,
  code: "MWARP_E_DUMP",
  message: "CRIU said no",
});

export const migration = (cell: Cell, round: number, totalMs = 500): MigrationRecord => ({
  kind: "migration",
  cell,
  round,
  load: 0.5,
  report: {
    id: "m1",
    container: "bench",
    from: "vm-a",
    to: "vm-b",
    method: cell.method,
    backend: cell.method === "warp" ? "remap" : null,
    strategy: null,
    outcome: "committed",
    error: null,
    startedAt: "2026-11-26T12:00:00.000Z",
    time_ms: {
      total: totalMs,
      downtime: totalMs / 5,
      downtime_parts: NO_DOWNTIME,
      phases: Object.fromEntries(phases.map((phase) => [phase, 10])) as Record<
        (typeof phases)[number],
        number
      >,
    },
    stun_ms: { times: 1, source: 10, destination: 10, parts: NO_STUN },
    memory: {
      bytes: cell.size,
      pages: cell.size / 4096,
      remapped_pages: cell.size / 4096,
      copied_pages: 0,
      shared_pages: 0,
      image_bytes: 10_000,
      warped_image_bytes: 0,
      remapped_image_pages: 0,
      copied_image_pages: 0,
      channel_bytes: 20_000,
      network_bytes: 0,
      extents: 4,
      staged_pages: 0,
      handed_pages: 0,
    },
    files: { first_bytes: 0, final_bytes: 0 },
    rounds: [],
    commands: [],
  },
  usage: {
    cpu_ms: { source_vmm: 100, destination_vmm: 120, daemon: 80 },
    pss: { before: 1e9, peak: 1.01e9 },
  },
  first_touch_ms: 4,
  second_touch_ms: 2,
  verified: true,
});

export const runRecord = (change: Partial<RunRecord> = {}): RunRecord => ({
  kind: "run",
  version: 1,
  id: "20261126120000",
  started_at: "2026-11-26T12:00:00.000Z",
  command: ["bench", "quick"],
  commit: "0123456789",
  machine: {
    cpu: "Some CPU",
    cores: 2,
    memory: 24 * 1024 ** 3,
    kernel: "6.1.0",
    node: "v20.18.0",
    qemu: "7.2.9",
  },
  accelerator: "tcg",
  guest: { kernel: "6.12.0", criu: "4.1.1", runc: "1.1.15", memory: 1024 ** 3, cpus: 1 },
  seed: 7,
  build: "abcdef012345",
  plan: makePlan("quick", {}),
  ...change,
});

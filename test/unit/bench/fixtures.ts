/** Made-up records for tests of what reads them. None of these numbers was measured anywhere. */
import {
  type ApplicationRecord,
  type Backing,
  type BenchRecord,
  type Cell,
  type MigrationRecord,
  RECORD_VERSION,
  type Sample,
  type StallBucket,
  type StallRecord,
} from "../../../src/bench/records.js";
import { type MigrationReport, NO_DOWNTIME, NO_STUN, type Phase } from "../../../src/protocol/migration.js";
import { GIB, MIB } from "../../../src/units.js";

type Changes<T> = { readonly [Key in keyof T]?: T[Key] };

export const run = (changes: Changes<Extract<BenchRecord, { kind: "run" }>> = {}): BenchRecord => ({
  kind: "run",
  version: RECORD_VERSION,
  id: "made-up",
  started_at: "2000-01-01T00:00:00Z",
  command: ["mwarp", "bench", "--out", "made up.jsonl"],
  commit: "0123456789ab",
  machine: { cpu: "Made-up CPU", cores: 2, memory: 24 * GIB, kernel: "6.1", node: "20.1", qemu: "7.2" },
  accelerator: "tcg",
  guest: { kernel: "6.12", criu: "4.1", runc: "1.1", memory: 2 * GIB, cpus: 2 },
  seed: 7,
  ...changes,
});

export const quietCell: Cell = {
  backing: "4k",
  pages: "thp",
  size: GIB,
  processes: 1,
  write_share: 0,
  method: "warp",
  backend: "auto",
  strategy: "auto",
};

const noPhases: Readonly<Record<Phase, number>> = {
  preflight: 0,
  prepare: 0,
  dump: 0,
  transfer: 0,
  restore: 0,
  populate: 0,
  warp: 0,
  resume: 0,
  retire: 0,
};

export interface MoveFacts {
  readonly cell?: Changes<Cell>;
  readonly round?: number;
  readonly phases?: Changes<Record<Phase, number>>;
  /** Time that no phase claims, ms. */
  readonly between?: number;
  readonly downtime?: number;
  readonly stun?: number;
  readonly memory?: Changes<MigrationReport["memory"]>;
  readonly rounds?: MigrationReport["rounds"];
  readonly report?: Changes<MigrationReport>;
  readonly firstTouch?: number | null;
  readonly peak?: number;
  readonly verified?: boolean;
}

export function report(facts: MoveFacts = {}): MigrationReport {
  const cell = { ...quietCell, ...facts.cell };
  const phases = { ...noPhases, ...facts.phases };
  const total = Object.values(phases).reduce((sum, time) => sum + time, facts.between ?? 0);
  const warp = cell.method === "warp";
  return {
    id: "m1",
    container: "web",
    from: "vm-a",
    to: "vm-b",
    method: cell.method,
    backend: warp ? (cell.backend === "copy" ? "copy" : "remap") : null,
    strategy: null,
    outcome: "committed",
    error: null,
    startedAt: "2000-01-01T00:00:00Z",
    time_ms: { total, downtime: facts.downtime ?? total / 2, downtime_parts: NO_DOWNTIME, phases },
    stun_ms: {
      times: warp ? 1 : 0,
      source: (facts.stun ?? 0) / 2,
      destination: facts.stun ?? 0,
      // Half of it for the walk.
      parts: { ...NO_STUN, walk: (facts.stun ?? 0) / 2, exchange: (facts.stun ?? 0) / 2 },
    },
    memory: {
      bytes: cell.size,
      pages: cell.size / 4096,
      remapped_pages: warp && cell.backend !== "copy" ? cell.size / 4096 : 0,
      copied_pages: warp && cell.backend !== "copy" ? 0 : cell.size / 4096,
      shared_pages: 0,
      image_bytes: 100_000,
      warped_image_bytes: 0,
      remapped_image_pages: 0,
      copied_image_pages: 0,
      channel_bytes: 200_000,
      network_bytes: warp ? 0 : cell.size,
      extents: warp ? 12 : 0,
      staged_pages: 0,
      handed_pages: 0,
      ...facts.memory,
    },
    files: { first_bytes: 0, final_bytes: 0 },
    rounds: facts.rounds ?? [],
    commands: warp ? [] : [{ vm: "vm-a", argv: ["criu", "dump", "--tree", "7"] }],
    ...facts.report,
  };
}

export const move = (facts: MoveFacts = {}): MigrationRecord => ({
  kind: "migration",
  cell: { ...quietCell, ...facts.cell },
  round: facts.round ?? 0,
  load: 0.5,
  report: report(facts),
  usage: {
    cpu_ms: { source_vmm: 900, destination_vmm: 1400, daemon: 120 },
    pss: { before: 4 * GIB, peak: facts.peak ?? 4 * GIB + 20 * MIB },
  },
  first_touch_ms: facts.firstTouch ?? null,
  second_touch_ms: facts.firstTouch == null ? null : facts.firstTouch / 2,
  verified: facts.verified ?? true,
});

/** One record for each of `count` rounds. */
export const rounds = <T>(count: number, record: (round: number) => T): T[] =>
  Array.from({ length: count }, (_, round) => record(round));

export interface ClientFacts {
  readonly application?: ApplicationRecord["application"];
  readonly method?: Cell["method"];
  readonly round?: number;
  /** Operations of the 1000 that were expected. */
  readonly operations?: number;
  readonly samples?: readonly Sample[];
  readonly report?: MigrationReport;
  readonly client?: string;
}

export function client(facts: ClientFacts = {}): ApplicationRecord {
  const method = facts.method ?? "warp";
  return {
    kind: "application",
    application: facts.application ?? "redis",
    backing: "4k",
    method,
    round: facts.round ?? 0,
    load: 0.5,
    client: facts.client ?? "GET of made-up keys",
    interval_ms: 100,
    samples: [...(facts.samples ?? [])],
    operations: facts.operations ?? 900,
    expected_operations: 1000,
    faults: { connections_lost: 0, wrong_answers: 0 },
    report: facts.report ?? report({ cell: { method }, phases: { dump: 1000, resume: 20 } }),
  };
}

export const network = (mibPerSecond: number, round = 0): BenchRecord => ({
  kind: "network",
  backing: "4k",
  round,
  from: "vm-a",
  to: "vm-b",
  bytes: mibPerSecond * MIB,
  time_ms: 1000,
});

export const floor = (ms: number, round = 0, backing: Backing = "4k"): BenchRecord => ({
  kind: "floor",
  backing,
  round,
  vm: "vm-a",
  load: 0.5,
  frozen_ms: ms,
  commands_ms: ms + 300,
});

export interface StallFacts {
  readonly cell?: Changes<Cell>;
  readonly round?: number;
  /** Every 25th page of 400 takes this long, ms; the others 1 us. */
  readonly slow?: number;
  readonly verified?: boolean;
  readonly downtime?: number;
}

export function stall({
  cell,
  round = 0,
  slow = 1,
  verified = true,
  downtime = 500,
}: StallFacts = {}): StallRecord {
  const histogram: StallBucket[] = [
    { from_ns: 1000, to_ns: 1000, pages: 384 },
    { from_ns: slow * 1e6, to_ns: slow * 1e6, pages: 16 },
  ];
  return {
    kind: "stalls",
    cell: { ...quietCell, size: 256 * MIB, ...cell },
    round,
    load: 0.5,
    report: report({ cell: { ...cell }, phases: { dump: 700 }, downtime }),
    stalls: { passes: 20, pages: 400, window_ms: 16 * slow, longest_ms: slow, histogram },
    verified,
  };
}

export interface PlannerFacts {
  readonly round?: number;
  readonly layout?: string;
  readonly auto?: number;
  readonly remap?: number | null;
  readonly copy?: number;
}

export function planner({
  round = 0,
  layout = "one run",
  auto = 1,
  remap = 1,
  copy = 2,
}: PlannerFacts = {}): BenchRecord {
  const times = { auto, remap, copy };
  return {
    kind: "planner",
    round,
    layout,
    host_page_bytes: 4096,
    pages: 1000,
    extents: 10,
    predicted_ms: times,
    measured_ms: times,
  };
}

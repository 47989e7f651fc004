/** A whole made-up run: something in every section of a report. None of these numbers was measured anywhere. */
import type { Backing, BenchRecord, Cell, PageKind, Sample } from "../../../src/bench/records.js";
import type { MigrationMethod } from "../../../src/protocol/migration.js";
import { GIB, MIB } from "../../../src/units.js";
import { client, floor, move, network, planner, type report, rounds, run, stall } from "./fixtures.js";

const ways: readonly Pick<Cell, "method" | "backend">[] = [
  { method: "warp", backend: "auto" },
  { method: "warp", backend: "copy" },
  { method: "cold", backend: "auto" },
  { method: "precopy", backend: "auto" },
  { method: "postcopy", backend: "auto" },
];
const settings: readonly { readonly backing: Backing; readonly pages: PageKind }[] = [
  { backing: "4k", pages: "scattered" },
  { backing: "hugetlb", pages: "thp" },
];
const methods: readonly MigrationMethod[] = ["warp", "cold", "precopy", "postcopy"];

export function madeUpRun(count = 10): BenchRecord[] {
  const at = (cell: Partial<Cell>): BenchRecord[] => rounds(count, (round) => moveOf(cell, round));
  const sizes = [16 * MIB, 128 * MIB, GIB, 4 * GIB];
  return [
    run(),
    ...rounds(count, (round) => network(180 + round, round)),
    ...settings.flatMap((setting) =>
      ways.flatMap((way) => sizes.flatMap((size) => at({ ...setting, ...way, size }))),
    ),
    ...ways.slice(0, 2).flatMap((way) => at({ ...way, backing: "thp", pages: "thp" })),
    ...ways.flatMap((way) =>
      [0.1, 0.5, 1].flatMap((share) => at({ ...settings[0], ...way, write_share: share })),
    ),
    ...ways.flatMap((way) => [4, 16, 64].flatMap((processes) => at({ ...settings[0], ...way, processes }))),
    ...(["redis", "postgres", "memory"] as const).flatMap((application) =>
      methods.flatMap((method) =>
        rounds(count, (round) => {
          const base = moveOf({ method }, round).report;
          return {
            ...client({ application, method, round, report: base, samples: timeline(base.time_ms, round) }),
            operations: Math.round(1000 - base.time_ms.downtime / 40),
          };
        }),
      ),
    ),
    ...methods.flatMap((method) =>
      rounds(count, (round) =>
        stall({ cell: { method }, round, slow: (method === "postcopy" ? 5 : 0.01) * (1 + wave(round)) }),
      ),
    ),
    ...rounds(count, (round) => floor(700 + 90 * wave(round), round)),
    ...["one run", "runs of 1 to 64 pages"].flatMap((layout) =>
      rounds(20, (round) => planner({ layout, round, auto: 1 + wave(round) / 10, remap: 1.02, copy: 3 })),
    ),
    ...[4096, 2 * MIB].flatMap((bytes) =>
      [1, 4, 16, 64, 256, 512].flatMap((pages) =>
        rounds(count, (round): BenchRecord => crossover(bytes, pages, round)),
      ),
    ),
    {
      kind: "failure",
      what: "postcopy, 4 GiB",
      round: 3,
      code: "MWARP_E_TIMEOUT",
      message: "the move took too long",
    },
  ];
}

/** Between 0 and 1, another for each round, the same each time. */
const wave = (round: number): number => (Math.sin(round * 12.9898) + 1) / 2;

function moveOf(cell: Partial<Cell>, round: number): Extract<BenchRecord, { kind: "migration" }> {
  const { method = "warp", backend = "auto", size = GIB, processes = 1, write_share: share = 0 } = cell;
  const noise = 1 + wave(round) / 8;
  const gib = size / GIB;
  const fixed = (800 + 60 * processes) * noise;
  const byMethod = {
    warp: {
      phases: {
        dump: fixed / 2,
        restore: fixed,
        populate: 300 * gib,
        warp: backend === "copy" ? 420 * gib : 60 * gib,
      },
      still: 0.9,
    },
    cold: { phases: { dump: fixed / 2 + 7000 * gib * noise, restore: fixed + 4000 * gib }, still: 0.95 },
    precopy: {
      phases: {
        prepare: 7000 * gib * (1 + 2 * share),
        dump: fixed + 3000 * gib * share,
        restore: fixed + 3500 * gib,
      },
      still: 0.3,
    },
    postcopy: { phases: { dump: fixed, restore: fixed, retire: 9000 * gib * noise }, still: 0.15 },
  }[method];
  const phases = { preflight: 90, prepare: 140, transfer: 70, resume: 30, retire: 60, ...byMethod.phases };
  const total = Object.values(phases).reduce((sum, time) => sum + time, 12);
  return move({
    cell: { ...cell, method, backend },
    round,
    phases,
    between: 12,
    downtime: (total - (phases.retire ?? 0)) * byMethod.still,
    stun: method === "warp" ? (backend === "copy" ? 400 : 50) * gib : 0,
    firstTouch: method === "warp" ? 90 * gib : null,
    peak: 4 * GIB + (method === "warp" ? 25 : 180) * MIB,
    ...(method === "precopy"
      ? {
          rounds: [
            { bytes: size, time_ms: 6000 * gib },
            { bytes: size * share, time_ms: 6000 * gib * share + 1 },
          ],
          memory: { network_bytes: size * (1 + 2 * share) },
        }
      : {}),
  });
}

/** A client that is slower around the move and hears nothing while the container stands still. */
function timeline({ total, downtime }: ReturnType<typeof report>["time_ms"], round: number): Sample[] {
  return Array.from({ length: 350 }, (_, index): Sample => {
    const at = -5000 + index * 100;
    const silent = at > total - downtime && at < total;
    const busy = at > 0 && at < total;
    const operations = silent ? 0 : Math.round((busy ? 700 : 1000) * (0.95 + wave(index + round) / 10));
    return silent
      ? { at_ms: at, operations, p50_ms: null, p99_ms: null, max_ms: null }
      : {
          at_ms: at,
          operations,
          p50_ms: 0.8 + wave(index),
          p99_ms: (busy ? 9 : 3) + wave(index * 7),
          max_ms: 40,
        };
  });
}

const crossover = (bytes: number, run: number, round: number): BenchRecord => ({
  kind: "crossover",
  round,
  host_page_bytes: bytes,
  pages: 65536,
  run_pages: run,
  remap_ms: (65536 / run) * 0.002 * (1 + wave(round) / 5),
  touch_ms: bytes > 4096 ? 1.5 : 20,
  copy_ms: 60 * (1 + wave(round) / 5),
});

/** The records of a results file, sorted by what they are, and the series that bars and plots are made of. */
import { formatBytes } from "../cli/output/format.js";
import type { MigrationMethod } from "../protocol/migration.js";
import {
  type ApplicationRecord,
  type Backing,
  type BenchRecord,
  backings,
  type CrossoverRecord,
  type FailureRecord,
  type FloorRecord,
  type MigrationRecord,
  type NetworkRecord,
  type PageKind,
  type PlannerRecord,
  pageKinds,
  type RunRecord,
  type StallRecord,
} from "./records.js";
import type { Series } from "./statistics.js";

type OfKind<Kind extends BenchRecord["kind"]> = Extract<BenchRecord, { kind: Kind }>;

export interface Results {
  readonly run: RunRecord | null;
  readonly networks: readonly NetworkRecord[];
  readonly floors: readonly FloorRecord[];
  /** Moves that went as they should; only these make figures. */
  readonly migrations: readonly MigrationRecord[];
  /** Moves that did not reach their end, or after which memory was not as it should have been. */
  readonly spoiled: readonly MigrationRecord[];
  /** Moves of busy containers, as `migrations` and `spoiled`. */
  readonly stalls: readonly StallRecord[];
  readonly spoiledStalls: readonly StallRecord[];
  readonly planners: readonly PlannerRecord[];
  readonly crossovers: readonly CrossoverRecord[];
  readonly applications: readonly ApplicationRecord[];
  readonly spoiledApplications: readonly ApplicationRecord[];
  readonly failures: readonly FailureRecord[];
}

/** Of the operations that the rate before the move would have made in the window, the share that was not; null when there was no rate. */
export const lostShare = ({ operations, expected_operations: expected }: ApplicationRecord): number | null =>
  expected > 0 ? 1 - operations / expected : null;

export function sortRecords(records: readonly BenchRecord[]): Results {
  const of = <Kind extends BenchRecord["kind"]>(kind: Kind): OfKind<Kind>[] =>
    records.filter((record): record is OfKind<Kind> => record.kind === kind);
  const migrations = of("migration");
  const stalls = of("stalls");
  const applications = of("application");
  return {
    run: of("run")[0] ?? null,
    networks: of("network"),
    floors: of("floor"),
    migrations: migrations.filter((record) => record.verified && wentWell(record.report)),
    spoiled: migrations.filter((record) => !record.verified || !wentWell(record.report)),
    stalls: stalls.filter((record) => record.verified && wentWell(record.report)),
    spoiledStalls: stalls.filter((record) => !record.verified || !wentWell(record.report)),
    planners: of("planner"),
    crossovers: of("crossover"),
    applications: applications.filter((record) => wentWell(record.report)),
    spoiledApplications: applications.filter((record) => !wentWell(record.report)),
    failures: of("failure"),
  };
}

const wentWell = ({ outcome, error }: MigrationRecord["report"]): boolean =>
  outcome === "committed" && error === null;

/** A method as the plots tell them apart: warp that was told how to exchange, or when to populate, is one of its own. */
export const variants = [
  "warp",
  "warp, eager",
  "warp, staged",
  "warp, remap",
  "warp, copy",
  "cold",
  "precopy",
  "postcopy",
] as const;
export type Variant = (typeof variants)[number];

export function variantOf({ method, backend, strategy }: MigrationRecord["cell"]): Variant {
  if (method !== "warp") return method;
  if (backend !== "auto") return `warp, ${backend}`;
  return strategy === "auto" ? "warp" : `warp, ${strategy}`;
}

/** What the VMs' memory and the container's pages are made of: figures of different settings are never compared. */
export interface Setting {
  readonly backing: Backing;
  readonly pages: PageKind;
}

export function settingsOf(migrations: readonly MigrationRecord[]): Setting[] {
  return backings
    .flatMap((backing) => pageKinds.map((pages): Setting => ({ backing, pages })))
    .filter((setting) => migrations.some(({ cell }) => isIn(cell, setting)));
}

/** Settings in which warp can be compared with another method; all of them when it can in none. */
export function comparedSettings(migrations: readonly MigrationRecord[]): Setting[] {
  const compared = settingsOf(migrations.filter(({ cell }) => cell.method !== "warp"));
  return compared.length > 0 ? compared : settingsOf(migrations);
}

export const isIn = (cell: MigrationRecord["cell"], { backing, pages }: Setting): boolean =>
  cell.backing === backing && cell.pages === pages;

const backingNames: Readonly<Record<Backing, string>> = {
  "4k": "4 KiB host pages",
  thp: "shmem THP",
  hugetlb: "hugetlb",
};
const pageNames: Readonly<Record<PageKind, string>> = {
  thp: "guest THP",
  scattered: "scattered 4 KiB",
};
export const nameOfBacking = (backing: Backing): string => backingNames[backing];
export const nameOfSetting = ({ backing, pages }: Setting): string =>
  `${backingNames[backing]}, ${pageNames[pages]}`;

/** "1 GiB", "16 MiB": sizes of the matrix, without the decimal of a measured amount. */
export const nameOfSize = (bytes: number): string => formatBytes(bytes).replace(".0 ", " ");

/** A container that is only moved: one process, nothing written. */
export const isQuiet = ({ cell }: MigrationRecord): boolean => cell.processes === 1 && cell.write_share === 0;

/** Values by round; of a cell that was run again in its round, the last. Values that are null are left out. */
export function seriesOf<R extends { readonly round: number }>(
  records: readonly R[],
  value: (record: R) => number | null,
): Series {
  return new Map(
    records.flatMap((record): [number, number][] => {
      const number = value(record);
      return number === null ? [] : [[record.round, number]];
    }),
  );
}

export const total = ({ report }: MigrationRecord): number => report.time_ms.total;
export const downtime = ({ report }: MigrationRecord): number => report.time_ms.downtime;
/** Both VMs stand still together; the longer of the two counts. */
export const stun = ({ report }: { readonly report: MigrationRecord["report"] }): number =>
  Math.max(report.stun_ms.source, report.stun_ms.destination);

export const baselines = ["cold", "precopy", "postcopy"] as const satisfies readonly MigrationMethod[];

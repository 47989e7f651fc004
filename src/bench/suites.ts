/** The named suites of `mwarp bench`, as data. */

import { GIB, MIB } from "../units.js";
import type { Axes } from "./matrix.js";
import type { Application } from "./records.js";

export interface Suite {
  /** What it answers, for `--help`. */
  readonly about: string;
  readonly rounds: number;
  readonly slices: readonly Axes[];
  readonly applications: readonly ApplicationSlice[];
  /** Of plans and of the crossover of remap and copy, on the host without a VM. */
  readonly plannerRounds: number;
  /** Cells of containers that are busy with their pages while they are moved. */
  readonly stalls: readonly Axes[];
  /** The floor of a downtime, once a round. */
  readonly floor: boolean;
}

interface ApplicationSlice extends Pick<Axes, "backing" | "method"> {
  readonly application: Application;
}

/** The plainest container there is; a slice says in what it differs. */
const base: Axes = {
  size: [GIB],
  pages: ["thp"],
  backing: ["hugetlb"],
  writeShare: [0],
  processes: [1],
  method: ["warp", "cold", "precopy", "postcopy"],
  backend: ["auto"],
  strategy: ["auto"],
};

const slice = (axes: Partial<Axes>): Axes => ({ ...base, ...axes });

/** As many as an interval of 95 % needs. */
const ROUNDS = 10;
/** The bars on downtime ask for more. */
const DOWNTIME_ROUNDS = 15;
/** The bar on plans is the median of twenty. */
const PLANNER_ROUNDS = 20;

const compare: readonly Axes[] = [slice({ writeShare: [0, 1] })];
const sizes: readonly Axes[] = [slice({ size: [16 * MIB, 64 * MIB, 256 * MIB, GIB, 4 * GIB] })];
const downtimes: readonly Axes[] = [
  slice({
    size: [16 * MIB, 256 * MIB, GIB, 4 * GIB],
    method: ["warp", "postcopy"],
    strategy: ["eager", "staged"],
  }),
];
const pages: readonly Axes[] = [
  slice({
    pages: ["thp", "scattered"],
    backing: ["4k", "thp", "hugetlb"],
    method: ["warp"],
    backend: ["auto", "remap", "copy"],
  }),
];
const writes: readonly Axes[] = [slice({ size: [256 * MIB], writeShare: [0, 0.1, 0.5, 1, 4] })];
const processes: readonly Axes[] = [
  slice({ size: [256 * MIB], processes: [1, 4, 16, 64], method: ["warp", "cold"] }),
];
const stalls: readonly Axes[] = [
  slice({ size: [256 * MIB], method: ["warp", "postcopy"], strategy: ["staged"] }),
];
const applications = (["redis", "postgres", "memory"] as const).map(
  (application): ApplicationSlice => ({ application, backing: base.backing, method: base.method }),
);

/** What the bars of the report are judged by, and nothing else: the shortest run that answers them all. */
const bars: readonly Axes[] = [
  slice({ backend: ["auto", "copy"] }),
  slice({ writeShare: [1], method: ["warp", "precopy"] }),
];

/** A suite of slices of the matrix and nothing else. */
const ofSlices = (about: string, slices: readonly Axes[]): Suite => ({
  about,
  rounds: ROUNDS,
  slices,
  applications: [],
  plannerRounds: 0,
  stalls: [],
  floor: false,
});

export const suiteNames = [
  "quick",
  "bars",
  "compare",
  "sizes",
  "downtime",
  "pages",
  "writes",
  "processes",
  "stalls",
  "applications",
  "planner",
  "full",
] as const;
export type SuiteName = (typeof suiteNames)[number];

export const suites: Readonly<Record<SuiteName, Suite>> = {
  quick: {
    ...ofSlices("a look at the methods and the planner in under five minutes", [slice({ size: [64 * MIB] })]),
    rounds: 2,
    plannerRounds: 2,
  },
  bars: {
    ...ofSlices("every figure that the report's bars are about, 1 GiB, about an hour", bars),
    applications: [{ application: "redis", backing: base.backing, method: ["warp", "precopy"] }],
    plannerRounds: PLANNER_ROUNDS,
  },
  compare: ofSlices("1 GiB by every method, idle and written to", compare),
  sizes: ofSlices("total and downtime against size, 16 MiB to 4 GiB", sizes),
  downtime: {
    ...ofSlices("who is waited for while the container stands still, 16 MiB to 4 GiB", downtimes),
    rounds: DOWNTIME_ROUNDS,
    floor: true,
  },
  pages: ofSlices("kinds of pages against back ends: the stun and the first touch after it", pages),
  writes: ofSlices("how much the container writes while it moves", writes),
  processes: ofSlices("1 to 64 processes", processes),
  stalls: {
    ...ofSlices("how long pages take after the move, in a container that is busy with them", []),
    stalls,
  },
  applications: {
    ...ofSlices("Redis, PostgreSQL and a memory-bound program with busy clients", []),
    applications,
  },
  planner: {
    ...ofSlices("plans against times, and where remap and copy cross over, without a VM", []),
    plannerRounds: PLANNER_ROUNDS,
  },
  full: {
    ...ofSlices("all of it", [...compare, ...sizes, ...downtimes, ...pages, ...writes, ...processes]),
    applications,
    plannerRounds: PLANNER_ROUNDS,
    stalls,
    floor: true,
  },
};

/** The named suites of `mwarp bench`, as data. */
import type { Axes } from "./matrix.js";

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

export interface Suite {
  /** What it answers, for `--help`. */
  readonly about: string;
  readonly rounds: number;
  readonly slices: readonly Axes[];
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
};

const slice = (axes: Partial<Axes>): Axes => ({ ...base, ...axes });

/** As many as an interval of 95 % needs. */
const ROUNDS = 10;

const compare: readonly Axes[] = [slice({ writeShare: [0, 1] })];
const sizes: readonly Axes[] = [slice({ size: [16 * MIB, 64 * MIB, 256 * MIB, GIB, 4 * GIB] })];
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

export const suites = {
  quick: {
    about: "a look at everything in under five minutes",
    rounds: 2,
    slices: [slice({ size: [64 * MIB] })],
  },
  compare: { about: "1 GiB by every method, idle and written to", rounds: ROUNDS, slices: compare },
  sizes: { about: "total and downtime against size, 16 MiB to 4 GiB", rounds: ROUNDS, slices: sizes },
  pages: {
    about: "kinds of pages against back ends: the stun and the first touch after it",
    rounds: ROUNDS,
    slices: pages,
  },
  writes: { about: "how much the container writes while it moves", rounds: ROUNDS, slices: writes },
  processes: { about: "1 to 64 processes", rounds: ROUNDS, slices: processes },
  full: {
    about: "all of it",
    rounds: ROUNDS,
    slices: [...compare, ...sizes, ...pages, ...writes, ...processes],
  },
} as const satisfies Record<string, Suite>;

export type SuiteName = keyof typeof suites;
export const suiteNames = Object.keys(suites) as [SuiteName, ...SuiteName[]];

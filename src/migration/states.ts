/**
 * The migration as explicit data: its states, which may follow which, what takes it from one to the next and what undoes
 * that. Shape after libvirt's Begin/Prepare/Perform/Finish/Confirm; runc's container states are the model for the table.
 *
 * There is one commit point. Up to it every state can be rolled back and the container goes on at the source, its memory
 * untouched; from `committed` on there is only forward.
 */
import type { MigrationMethod, Phase } from "../protocol/migration.js";

export const states = [
  "started",
  "prepared",
  "frozen",
  "dumped",
  "transferred",
  "held",
  "populated",
  "committed",
  "resumed",
  "retired",
  "aborting",
  "aborted",
  "lost",
] as const;
export type State = (typeof states)[number];

/** What each state means; one line, for what `mwarp recover` cannot settle. */
export const stateMeaning: Readonly<Record<State, string>> = {
  started: "preflight passed; nothing of the container was changed",
  prepared:
    "image directories exist on both sides; the destination has bundle, file system and a network that is down",
  frozen: "the source is frozen by its cgroup and its link is down",
  dumped:
    "CRIU has written the skeleton and waits in its post-dump hook; the source is still frozen by its cgroup",
  transferred: "skeleton and writable layer are on the destination",
  held: "CRIU has restored the tasks and waits in its pre-resume hook; the destination is frozen by its cgroup",
  populated: "every page that will arrive has a frame on the destination",
  committed: "the journal says that the destination owns the container; it may run there, and nowhere else",
  resumed: "the container runs on the destination",
  retired: "nothing of the container is left on the source; the end of a successful migration",
  aborting: "the journal says that the source owns the container; the destination is being cleared",
  aborted:
    "the container runs on the source and the destination holds nothing of it; the end of a rolled-back migration",
  lost: "the VM that owned the container ended before the migration did, and the container with it",
};

/** The states that may follow each state. A state that lists none is terminal. */
export const successors: Readonly<Record<State, readonly State[]>> = {
  started: ["prepared", "aborting"],
  prepared: ["frozen", "aborting"],
  frozen: ["dumped", "aborting"],
  dumped: ["transferred", "aborting"],
  transferred: ["held", "aborting"],
  held: ["populated", "committed", "aborting"],
  populated: ["committed", "aborting"],
  committed: ["resumed", "lost"],
  resumed: ["retired", "lost"],
  retired: [],
  aborting: ["aborted", "lost"],
  aborted: [],
  lost: [],
};

export const isTerminal = (state: State): boolean => successors[state].length === 0;
export const mayFollow = (from: State, to: State): boolean => successors[from].includes(to);

/** Who may run the container in a state, for recovery and for the invariants' tests (I1). */
export const owner = (state: State): "source" | "destination" =>
  state === "committed" || state === "resumed" || state === "retired" ? "destination" : "source";

/** What a step does to the world, and so what takes it back. `none`: it changed nothing. */
export type Undo = "none" | "abortSource" | "abortDestination";

export interface StepDefinition {
  readonly from: State;
  readonly to: State;
  readonly phase: Phase;
  /** Run in reverse order of the steps begun; each is idempotent and right for a half-done step. */
  readonly undo: readonly Undo[];
}

/**
 * The steps before and at the commit, in order, per method. Destination undone before the source is thawed: at no instant
 * two copies that could run.
 */
export const steps = {
  prepare: {
    from: "started",
    to: "prepared",
    phase: "prepare",
    undo: ["abortSource", "abortDestination"],
  },
  freeze: { from: "prepared", to: "frozen", phase: "dump", undo: ["abortSource"] },
  dump: { from: "frozen", to: "dumped", phase: "dump", undo: ["abortSource"] },
  transfer: { from: "dumped", to: "transferred", phase: "transfer", undo: ["abortDestination"] },
  restore: { from: "transferred", to: "held", phase: "restore", undo: ["abortDestination"] },
  populate: { from: "held", to: "populated", phase: "populate", undo: ["abortDestination"] },
  /** Pause, walk, validate, exchange, journal, continue. It undoes its own exchange before it fails. */
  warp: { from: "populated", to: "committed", phase: "warp", undo: [] },
  /** Without a warp only the journal's word is left. */
  commit: { from: "held", to: "committed", phase: "restore", undo: [] },
} as const satisfies Record<string, StepDefinition>;
export type StepName = keyof typeof steps;

const overNetwork = ["prepare", "freeze", "dump", "transfer", "restore", "commit"] as const;
export const methodSteps: Readonly<Record<MigrationMethod, readonly StepName[]>> = {
  warp: ["prepare", "freeze", "dump", "transfer", "restore", "populate", "warp"],
  cold: overNetwork,
  precopy: overNetwork,
  postcopy: overNetwork,
};

/** After the commit: only forward, each retried until it is done or left to recovery. */
export const forwardSteps = {
  resume: { from: "committed", to: "resumed", phase: "resume" },
  retire: { from: "resumed", to: "retired", phase: "retire" },
} as const satisfies Record<string, { from: State; to: State; phase: Phase }>;
export type ForwardStepName = keyof typeof forwardSteps;

/** The undo actions for the steps that were begun, in the order in which they must run, each once. */
export function undoPlan(begun: readonly StepName[]): Exclude<Undo, "none">[] {
  const plan: Exclude<Undo, "none">[] = [];
  for (const name of [...begun].reverse()) {
    for (const undo of steps[name].undo) {
      if (!plan.includes(undo)) plan.push(undo);
    }
  }
  // Steps on the two sides interleave; whatever their order, the destination goes first (I1).
  return plan.sort((a, b) => (a === b ? 0 : a === "abortDestination" ? -1 : 1));
}

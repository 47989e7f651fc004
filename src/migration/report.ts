/** Builds the report of a migration: the JSON contract of `mwarp migrate --json`. */
import type { MwarpError } from "../errors.js";
import type { MigrationReport, MigrationRequest, Phase, Strategy } from "../protocol/migration.js";
import type { MigrationClock } from "./clock.js";
import { Refusal } from "./preflight.js";

/** Counts a migration collects on its way; all zero until known. */
export interface Tally {
  backend: "remap" | "copy" | null;
  strategy: Strategy | null;
  /** Pages. */
  staged: number;
  handed: number;
  memoryPages: number;
  memoryBytes: number;
  remappedPages: number;
  copiedPages: number;
  sharedPages: number;
  imageBytes: number;
  /** Of image files whose frames were exchanged, or copied by the host; bytes and pages. */
  warpedImageBytes: number;
  remappedImagePages: number;
  copiedImagePages: number;
  layerAheadBytes: number;
  layerBytes: number;
  channelBytes: number;
  networkBytes: number;
  extents: number;
  readonly rounds: MigrationReport["rounds"];
  readonly commands: MigrationReport["commands"];
}

export const emptyTally = (): Tally => ({
  backend: null,
  strategy: null,
  staged: 0,
  handed: 0,
  memoryPages: 0,
  memoryBytes: 0,
  remappedPages: 0,
  copiedPages: 0,
  sharedPages: 0,
  imageBytes: 0,
  warpedImageBytes: 0,
  remappedImagePages: 0,
  copiedImagePages: 0,
  layerAheadBytes: 0,
  layerBytes: 0,
  channelBytes: 0,
  networkBytes: 0,
  extents: 0,
  rounds: [],
  commands: [],
});

export interface ReportFacts {
  readonly id: string;
  readonly request: MigrationRequest;
  /** VM the container was found on; empty when it was not found. */
  readonly from: string;
  readonly startedAt: string;
  readonly outcome: MigrationReport["outcome"];
  readonly error: { readonly error: MwarpError; readonly phase: Phase } | null;
  readonly clock: MigrationClock;
  readonly tally: Tally;
}

export function buildReport(facts: ReportFacts): MigrationReport {
  const { tally } = facts;
  const { stun, ...time } = facts.clock.report();
  return {
    id: facts.id,
    container: facts.request.container,
    from: facts.from,
    to: facts.request.to,
    method: facts.request.method,
    backend: tally.backend,
    strategy: tally.strategy,
    outcome: facts.outcome,
    error: facts.error === null ? null : describeError(facts.error.error, facts.error.phase),
    startedAt: facts.startedAt,
    time_ms: time,
    stun_ms: stun,
    memory: {
      bytes: tally.memoryBytes,
      pages: tally.memoryPages,
      remapped_pages: tally.remappedPages,
      copied_pages: tally.copiedPages,
      shared_pages: tally.sharedPages,
      image_bytes: tally.imageBytes,
      warped_image_bytes: tally.warpedImageBytes,
      remapped_image_pages: tally.remappedImagePages,
      copied_image_pages: tally.copiedImagePages,
      channel_bytes: tally.channelBytes,
      network_bytes: tally.networkBytes,
      extents: tally.extents,
      staged_pages: tally.staged,
      handed_pages: tally.handed,
    },
    files: { first_bytes: tally.layerAheadBytes, final_bytes: tally.layerBytes },
    rounds: tally.rounds,
    commands: tally.commands,
  };
}

function describeError(error: MwarpError, phase: Phase): MigrationReport["error"] {
  const details =
    error instanceof Refusal
      ? error.reasons.flatMap(({ message, details = [] }) => [message, ...details])
      : [...error.details];
  return { code: error.code, message: error.message, hint: error.hint, phase, details };
}

/** When, in a client's time, the container stood still. */
import type { ApplicationRecord } from "../records.js";
import { stun } from "../results.js";

export interface Span {
  /** ms; 0 is the command. */
  readonly from: number;
  readonly to: number;
}

export interface Standstill {
  readonly downtime: Span;
  /** Null for methods that pause no VM. */
  readonly stun: Span | null;
  /** End of the migration. */
  readonly end: number;
}

/**
 * From the times of the report: downtime ends where the last phase, `retire`, begins, and the stun where `resume` does. The
 * report's clock starts some ms after the command, which the client's does not know; the spans are that much too early.
 */
export function standstill({ report }: Pick<ApplicationRecord, "report">): Standstill {
  const { total, downtime, phases } = report.time_ms;
  const up = total - (phases.retire ?? 0);
  const stunEnd = up - (phases.resume ?? 0);
  const stunned = stun({ report });
  return {
    downtime: { from: Math.max(0, up - downtime), to: up },
    stun: stunned > 0 ? { from: Math.max(0, stunEnd - stunned), to: stunEnd } : null,
    end: total,
  };
}

/** The longest time in which no operation ended, ms, to the width of an interval. */
export function longestSilence({ samples, interval_ms }: ApplicationRecord): number {
  let longest = 0;
  let silent = 0;
  for (const { operations } of samples) {
    silent = operations === 0 ? silent + interval_ms : 0;
    longest = Math.max(longest, silent);
  }
  return longest;
}

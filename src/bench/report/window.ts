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

/** As long as the rate must last, ms: one good interval between two bad ones is no recovery. */
const LASTING_MS = 1000;
const USUAL_SHARE = 0.95;

/** Operations per ms before the command; 0 without samples from before it. */
export function rateBefore({ samples, interval_ms }: ApplicationRecord): number {
  const early = samples.filter(({ at_ms }) => at_ms < 0);
  const operations = early.reduce((sum, one) => sum + one.operations, 0);
  return early.length === 0 ? 0 : operations / (early.length * interval_ms);
}

/**
 * From the end of the downtime to the first interval whose rate is at least 95 % of that before the command, and on average stays so
 * for a second, ms. The interval in which the downtime ended does not count. Null when there is none such in the window, or no rate.
 */
export function recovery(record: ApplicationRecord): number | null {
  const { samples, interval_ms } = record;
  const end = standstill(record).downtime.to;
  const wanted = rateBefore(record) * interval_ms * USUAL_SHARE;
  const lasting = Math.ceil(LASTING_MS / interval_ms);
  if (wanted <= 0) return null;
  const found = samples.find(({ at_ms, operations }, index) => {
    const second = samples.slice(index, index + lasting);
    const made = second.reduce((sum, one) => sum + one.operations, 0);
    return at_ms >= end && second.length === lasting && operations >= wanted && made >= wanted * lasting;
  });
  return found === undefined ? null : found.at_ms - end;
}

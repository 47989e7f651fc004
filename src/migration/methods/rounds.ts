/** When a pre-copy stops copying and freezes. Pure: the rounds so far in, a decision out. */
import { MAX_ROUNDS } from "../../protocol/agent.js";

/** A round before the freeze: bytes of page contents that it sent, and how long it took. */
export interface Round {
  readonly bytes: number;
  readonly time_ms: number;
}

/** So little is sent in the time that CRIU needs for anything: another round would only delay. */
export const FEW_BYTES = 8 * 1024 ** 2;
/** A round that sends more than this share of the one before gains on the writer too slowly to be worth its time. */
export const SHRINKS_TO = 0.75;

/**
 * The number of the next round, or null to freeze now. The rules are those of VM migrations: enough when little is left, enough
 * when it does not converge, and never without end (QEMU's migration/ram.c has the same three).
 * @param done rounds so far, the first sent everything
 */
export function nextRound(done: readonly Round[]): number | null {
  const last = done.at(-1);
  if (last === undefined) return 1;
  if (done.length >= MAX_ROUNDS || last.bytes <= FEW_BYTES) return null;
  const before = done.at(-2);
  if (before !== undefined && last.bytes > before.bytes * SHRINKS_TO) return null;
  return done.length + 1;
}

/** What the results of health checks make of a container. Pure: the clock is an argument. */
import * as z from "zod/mini";
import {
  type HealthCheck,
  type HealthResult,
  HealthStateSchema,
  KEPT_OUTPUT_CHARACTERS,
  KEPT_RESULTS,
} from "../../protocol/health.js";

/** What is on file, and moves with the container. */
export const HealthFileSchema = z.extend(HealthStateSchema, {
  /** When the last check ended, or the container was started: monotonic ms (life.ts). */
  since: z.number(),
});
export type HealthFile = z.infer<typeof HealthFileSchema>;

/** After a move the container is left alone for so long: its first breath is not to be judged. */
export const SETTLE_MS = 1000;

/** Of a container that has just been started. What was found before is kept to be read. */
export const freshHealth = (now: number, before: HealthFile | null): HealthFile => ({
  status: "starting",
  failingStreak: 0,
  results: before?.results ?? [],
  since: now,
});

/** @param startedAt of the container, by the clock of `now` */
export function judged(
  health: HealthFile,
  check: HealthCheck,
  result: HealthResult,
  { now, startedAt }: { readonly now: number; readonly startedAt: number },
): HealthFile {
  const results = [...health.results, result].slice(-KEPT_RESULTS);
  const next = { ...health, results, since: now };
  if (result.exitCode === 0) return { ...next, status: "healthy", failingStreak: 0 };
  if (health.status === "starting" && now - startedAt < check.startPeriodMs) return next;
  const failingStreak = health.failingStreak + 1;
  return { ...next, failingStreak, status: failingStreak >= check.retries ? "unhealthy" : health.status };
}

/** When the next check is due. */
export const dueAt = (health: HealthFile, check: HealthCheck): number => health.since + check.intervalMs;

/**
 * The state of a container that has come from another VM just now. What it still had to wait it waits here, but never less than it
 * takes to settle, where checks are further apart than that.
 */
export function rebaseHealth(
  health: HealthFile,
  check: HealthCheck,
  shiftMs: number,
  now: number,
): HealthFile {
  const earliest = now + Math.min(SETTLE_MS, check.intervalMs) - check.intervalMs;
  return { ...health, since: Math.max(health.since + shiftMs, earliest) };
}

/** Output as it is kept: nothing but text, and not too much of it. The end says more than the beginning. */
export function keptOutput(text: string): string {
  const plain = [...text].map((character) => (isPlain(character) ? character : "?")).join("");
  return plain.slice(-KEPT_OUTPUT_CHARACTERS).trim();
}

const isPlain = (character: string): boolean =>
  character === "\n" || character === "\t" || (character >= " " && character !== "\u007f");

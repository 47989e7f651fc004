/** The health check of a container: what its image says, what was asked for on top of that, and Docker's defaults for the rest. */
import * as z from "zod/mini";
import { MwarpError } from "../errors.js";
import { type HealthCheck, type HealthWish, MOST_HEALTH_MS } from "../protocol/health.js";

const nanoseconds = z.nullish(z.number().check(z.minimum(0)));

/**
 * `Healthcheck` in the configuration of an image. OCI images that Docker's tools have built have it, too, though the specification
 * knows of none.
 */
export const ImageHealthSchema = z.looseObject({
  Test: z.nullish(z.array(z.string())),
  Interval: nanoseconds,
  Timeout: nanoseconds,
  Retries: z.nullish(z.int().check(z.minimum(0))),
  StartPeriod: nanoseconds,
});
export type ImageHealth = z.infer<typeof ImageHealthSchema>;

/** What an image says of its health check; a part that it leaves open is null. */
export interface SaidOfHealth {
  readonly command: readonly string[] | null;
  readonly intervalMs: number | null;
  readonly timeoutMs: number | null;
  readonly retries: number | null;
  readonly startPeriodMs: number | null;
}

const DEFAULTS = { intervalMs: 30_000, timeoutMs: 30_000, retries: 3, startPeriodMs: 0 };
const SHELL = ["/bin/sh", "-c"];
const NS_PER_MS = 1e6;

/**
 * @param shell what the image runs the commands of shells with
 * @returns null when the image has no health check, or says that it has none
 */
export function imageHealth(said: ImageHealth, shell: readonly string[] = SHELL): SaidOfHealth | null {
  const command = commandOf(said.Test ?? [], shell);
  if (command === null) return null;
  return {
    command,
    intervalMs: inMs(said.Interval),
    timeoutMs: inMs(said.Timeout),
    retries: said.Retries || null,
    startPeriodMs: inMs(said.StartPeriod),
  };
}

function commandOf([kind, ...words]: readonly string[], shell: readonly string[]): readonly string[] | null {
  if (kind === "CMD" && words.length > 0) return words;
  if (kind === "CMD-SHELL" && words.length > 0) return [...shell, words.join(" ")];
  return null;
}

/** 0 leaves it open. */
const inMs = (ns: number | null | undefined): number | null =>
  ns ? Math.min(MOST_HEALTH_MS, Math.max(1, Math.round(ns / NS_PER_MS))) : null;

/**
 * What is to be checked, or null for nothing.
 * @throws MWARP_E_USAGE when how it is to be checked was said, but nobody says what
 */
export function healthCheck(wish: HealthWish, said: SaidOfHealth | null): HealthCheck | null {
  if (wish.kind === "none") return null;
  const command = wish.command ?? said?.command ?? null;
  if (command === null) {
    const { kind: _check, ...details } = wish;
    if (Object.values(details).every((value) => value === null)) return null;
    throw new MwarpError("MWARP_E_USAGE", "nothing says what command checks the container's health", {
      hint: "Name one with --health-cmd.",
    });
  }
  return {
    command: [...command],
    intervalMs: wish.intervalMs ?? said?.intervalMs ?? DEFAULTS.intervalMs,
    timeoutMs: wish.timeoutMs ?? said?.timeoutMs ?? DEFAULTS.timeoutMs,
    retries: wish.retries ?? said?.retries ?? DEFAULTS.retries,
    startPeriodMs: wish.startPeriodMs ?? said?.startPeriodMs ?? DEFAULTS.startPeriodMs,
  };
}

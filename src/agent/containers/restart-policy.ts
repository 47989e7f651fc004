/** What is to become of a container that has ended. Pure: the clock is an argument. */
import type { RestartPolicy } from "../../protocol/restart.js";
import type { Life } from "./life.js";

/** The first restart in a row waits for so long, each further one twice as long as the one before. */
export const FIRST_DELAY_MS = 100;
export const LONGEST_DELAY_MS = 60_000;
/** Who has run for so long has started well: the next restart waits as the first. */
export const RAN_WELL_MS = 10_000;

/** Whether its policy has a container that ended so started again. @param count of restarts so far */
export function wantsRestart(policy: RestartPolicy, count: number, exitCode: number): boolean {
  switch (policy.name) {
    case "no":
      return false;
    case "on-failure":
      return exitCode !== 0 && (policy.most === null || count < policy.most);
    case "always":
    case "unless-stopped":
      return true;
  }
}

/** The life of a container whose end has been seen, at `now`. */
export function ended(life: Life, policy: RestartPolicy, exitCode: number, now: number): Life {
  const over: Life = { ...life, phase: "ended", dueAt: null };
  if (life.wanted === "stopped" || !wantsRestart(policy, life.count, exitCode)) return over;
  const delayMs = nextDelay(now - life.startedAt >= RAN_WELL_MS ? 0 : life.delayMs);
  return { ...over, delayMs, dueAt: now + delayMs };
}

const nextDelay = (delayMs: number): number =>
  delayMs === 0 ? FIRST_DELAY_MS : Math.min(delayMs * 2, LONGEST_DELAY_MS);

/** It is started again, by its policy. */
export const starting = (life: Life): Life => ({
  ...life,
  phase: "starting",
  count: life.count + 1,
  dueAt: null,
  error: null,
});

/** It runs. */
export const begun = (life: Life, now: number): Life => ({ ...life, phase: "begun", startedAt: now });

/** Somebody has stopped it by hand; its end, if it still runs, is seen later. */
export const stopped = (life: Life): Life => ({ ...life, wanted: "stopped", dueAt: null });

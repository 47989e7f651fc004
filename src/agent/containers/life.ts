/**
 * A container's life, on file: how often it was started, and what its restart policy has decided. The file moves with the container.
 * Times are milliseconds of this VM's monotonic clock, which goes on over a restart of the agent and which nobody sets; `rebase`
 * makes those of another VM ours.
 */
import * as z from "zod/mini";
import { readIfThere, writeAtomic } from "../files.js";
import { log } from "../log.js";
import { containerPaths } from "../paths.js";

const uint = z.int().check(z.minimum(0));
const Instant = z.number();

export const LifeSchema = z.object({
  /**
   * `starting`: it is being started again, or the agent that did so is no more. `begun`: it was started, and may have ended since.
   * `ended`: its end has been seen, and what is to come of it decided.
   */
  phase: z.enum(["starting", "begun", "ended"]),
  /** `stopped`: somebody has stopped it by hand, and it is not to be started again. */
  wanted: z.enum(["running", "stopped"]),
  startedAt: Instant,
  /** Times it was started again by its policy. */
  count: uint,
  /** What was waited before the last restart, ms; 0 when there was none, or it has run for long enough since. */
  delayMs: uint,
  /** When it is to be started again; null when it is not. */
  dueAt: z.nullable(Instant),
  /** Why the last attempt to start it again failed. */
  error: z.nullable(z.string().check(z.maxLength(4096))),
});
export type Life = z.infer<typeof LifeSchema>;

/** The clock of all times in here, ms since the VM has booted. */
export const monotonicMs = (): number => Number(process.hrtime.bigint() / 1000n) / 1000;

/** Of a container that has just been started by hand. */
export const newLife = (now: number): Life => ({
  phase: "begun",
  wanted: "running",
  startedAt: now,
  count: 0,
  delayMs: 0,
  dueAt: null,
  error: null,
});

/**
 * Of a container that has no such file: an older agent started it, or the one that did was killed in the midst of it. A file that is
 * damaged counts as none, as another VM may have made it.
 */
export async function loadLife(name: string): Promise<Life> {
  return (await readState(containerPaths(name).life, LifeSchema)) ?? newLife(0);
}

export async function saveLife(name: string, life: Life): Promise<void> {
  await writeAtomic(containerPaths(name).life, JSON.stringify(life));
}

/** A state that came from another VM, whose clock had another origin. */
export const rebaseLife = (life: Life, shiftMs: number): Life => ({
  ...life,
  startedAt: life.startedAt + shiftMs,
  dueAt: life.dueAt === null ? null : life.dueAt + shiftMs,
});

/** A file of this form; null where there is none, or none that can be used. */
export async function readState<S extends z.ZodMiniType>(
  path: string,
  schema: S,
): Promise<z.infer<S> | null> {
  const text = await readIfThere(path);
  if (text === null) return null;
  try {
    return schema.parse(JSON.parse(text)) as z.infer<S>;
  } catch (error) {
    log("warn", `${path} is not usable: ${String(error)}`);
    return null;
  }
}

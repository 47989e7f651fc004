/** What becomes of a container that has ended: the policy it was started with, and where it stands. Names and meaning as Docker has them. */
import * as z from "zod/mini";

const uint = z.int().check(z.minimum(0));

/**
 * `no`: it stays ended. `on-failure`: it is started again when its exit code is not 0, at most `most` times (null: as often as it
 * takes). `always` and `unless-stopped`: it is started again whatever its exit code; who stopped it by hand has it stopped.
 */
export const RestartPolicySchema = z.discriminatedUnion("name", [
  z.object({ name: z.literal("no") }),
  z.object({ name: z.literal("on-failure"), most: z.nullable(z.int().check(z.minimum(1))) }),
  z.object({ name: z.literal("always") }),
  z.object({ name: z.literal("unless-stopped") }),
]);
export type RestartPolicy = z.infer<typeof RestartPolicySchema>;

export const NO_RESTART: RestartPolicy = { name: "no" };

/** As people write it: `on-failure:3`. */
export const policyText = (policy: RestartPolicy): string =>
  policy.name === "on-failure" && policy.most !== null ? `on-failure:${policy.most}` : policy.name;

export const RestartStateSchema = z.object({
  /** How often it was started again by its policy; a start by hand begins anew. */
  count: uint,
  /** When it will be started again, ms from now; null when it runs, or stays ended. */
  dueInMs: z.nullable(uint),
  /** Why the last attempt to start it again failed; null when it did not. */
  error: z.nullable(z.string().check(z.maxLength(4096))),
});
export type RestartState = z.infer<typeof RestartStateSchema>;

export const NEVER_RESTARTED: RestartState = { count: 0, dueInMs: null, error: null };

/** How a container is to be stopped. */
export const StopSchema = z.object({
  /** A signal's name, "SIGTERM", for its first process; null for what its image wants, else SIGTERM. */
  signal: z.nullable(z.string().check(z.regex(/^SIG[A-Z0-9]{2,9}$/))),
  /** It is killed when it has not ended by then. */
  graceMs: uint.check(z.maximum(3_600_000)),
});
export type StopRequest = z.infer<typeof StopSchema>;
/** Its exit code; null for one that never ran. */
export const StoppedSchema = z.object({ exitCode: z.nullable(z.int()) });

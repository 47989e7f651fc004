/** Health checks: a command that says now and then whether a container does its work. Names and meaning as Docker has them. */
import * as z from "zod/mini";

const uint = z.int().check(z.minimum(0));
const positive = z.int().check(z.minimum(1));
const CommandSchema = z.array(z.string()).check(z.minLength(1));

/** The longest that is taken: a timer of Node's goes no further (24 days). */
export const MOST_HEALTH_MS = 2 ** 31 - 1;

export const HealthCheckSchema = z.object({
  /** Executed in the container; exit code 0 says that it is healthy. */
  command: CommandSchema,
  /** From the end of one check to the begin of the next, and from the container's start to the first. */
  intervalMs: positive.check(z.maximum(MOST_HEALTH_MS)),
  /** A check that takes longer is ended, and has failed. */
  timeoutMs: positive.check(z.maximum(MOST_HEALTH_MS)),
  /** So many checks must fail in a row to make it unhealthy. */
  retries: positive,
  /** From the container's start on, failures do not count for so long, until one check has gone well. */
  startPeriodMs: uint.check(z.maximum(MOST_HEALTH_MS)),
});
export type HealthCheck = z.infer<typeof HealthCheckSchema>;

/** What was asked for on the command line; null leaves it to the image, and then to the default. */
export const HealthWishSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("none") }),
  z.object({
    kind: z.literal("check"),
    command: z.nullable(CommandSchema),
    intervalMs: z.nullable(HealthCheckSchema.shape.intervalMs),
    timeoutMs: z.nullable(HealthCheckSchema.shape.timeoutMs),
    retries: z.nullable(HealthCheckSchema.shape.retries),
    startPeriodMs: z.nullable(HealthCheckSchema.shape.startPeriodMs),
  }),
]);
export type HealthWish = z.infer<typeof HealthWishSchema>;

/** Whatever the image says. */
export const NO_WISH: HealthWish = {
  kind: "check",
  command: null,
  intervalMs: null,
  timeoutMs: null,
  retries: null,
  startPeriodMs: null,
};

export const HealthStatusSchema = z.enum(["starting", "healthy", "unhealthy"]);

/** Results that are kept, and what is kept of the output of each. */
export const KEPT_RESULTS = 5;
export const KEPT_OUTPUT_CHARACTERS = 1024;

export const HealthResultSchema = z.object({
  /** ISO 8601, the clock of the VM that it ran in. */
  startedAt: z.string().check(z.maxLength(40)),
  tookMs: uint,
  /** Null for one that was ended because it took too long. */
  exitCode: z.nullable(z.int()),
  output: z.string().check(z.maxLength(KEPT_OUTPUT_CHARACTERS)),
});
export type HealthResult = z.infer<typeof HealthResultSchema>;

export const HealthStateSchema = z.object({
  status: HealthStatusSchema,
  /** Failures in a row, those that count. */
  failingStreak: uint,
  /** The last ones, the oldest first. */
  results: z.array(HealthResultSchema).check(z.maxLength(KEPT_RESULTS)),
});

/** What a method of the agent protocol is made of. */
import * as z from "zod/mini";

/** Id of a migration: time-ordered, path-safe. */
export const MigrationIdSchema = z.string().check(z.regex(/^[a-z0-9-]{8,40}$/));

/** Which way a method's chunks flow. */
type StreamDirection = "none" | "up" | "down" | "both";

export const method = <P extends z.ZodMiniType, R extends z.ZodMiniType, S extends StreamDirection>(
  stream: S,
  params: P,
  result: R,
) => ({
  stream,
  params,
  result,
});

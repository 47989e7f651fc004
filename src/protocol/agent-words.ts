/** What an agent says besides its results: events, and errors. */
import * as z from "zod/mini";

/** Events the agent sends unasked. */
export const AgentEventSchema = z.discriminatedUnion("event", [
  z.object({ event: z.literal("containerExited"), name: z.string(), exitCode: z.nullable(z.int()) }),
  z.object({
    event: z.literal("log"),
    level: z.enum(["debug", "info", "warn", "error"]),
    message: z.string(),
  }),
]);
export type AgentEvent = z.infer<typeof AgentEventSchema>;

/** JSON of an `error` frame. `detail` quotes the tool that failed (runc, CRIU), last lines first to matter. */
export const AgentErrorSchema = z.object({
  code: z.string(),
  message: z.string(),
  detail: z.array(z.string()),
});

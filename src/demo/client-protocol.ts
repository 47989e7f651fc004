/** What the demo asks its client process (lab/client-process.ts), and what that one answers. */
import * as z from "zod/mini";

export const ClientRequestSchema = z.discriminatedUnion("do", [
  /** Answers true once Redis takes commands, false when the time is up. */
  z.object({ do: z.literal("ready"), timeout_ms: z.int() }),
  z.object({ do: z.literal("load"), keys: z.int() }),
  z.object({ do: z.literal("check"), keys: z.int() }),
  /** Starts the client that reads and writes all the time. */
  z.object({ do: z.literal("traffic") }),
  /** Answers true once the traffic has got an answer to something it asked after this, false when the time is up. */
  z.object({ do: z.literal("flowing"), timeout_ms: z.int() }),
  /** What the traffic saw since the last mark. */
  z.object({ do: z.literal("mark") }),
]);
export type ClientRequest = z.infer<typeof ClientRequestSchema>;

export const CheckResultSchema = z.object({ keys: z.int(), missing: z.int(), wrong: z.int() });
export type CheckResult = z.infer<typeof CheckResultSchema>;

/** What the client saw since it was last asked. */
export const TrafficReportSchema = z.object({
  operations: z.int(),
  /** Longest time between two answers, ms: what a user of the server would have waited at most. */
  max_gap_ms: z.number(),
  /** Connections lost. Zero: the connection that was open at the start still is. */
  reconnects: z.int(),
  /** Answers that contradict what was written before. */
  wrong: z.int(),
});
export type TrafficReport = z.infer<typeof TrafficReportSchema>;

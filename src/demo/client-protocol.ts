/** What the demo and its client process (which lives in the lab's network namespace) say to each other: NDJSON lines. */
import * as z from "zod/mini";

export const ClientRequestSchema = z.discriminatedUnion("do", [
  /** Answers true once Redis takes commands, false when the time is up. */
  z.object({ id: z.int(), do: z.literal("ready"), timeout_ms: z.int() }),
  z.object({ id: z.int(), do: z.literal("load"), keys: z.int() }),
  z.object({ id: z.int(), do: z.literal("check"), keys: z.int() }),
  /** Starts the client that reads and writes all the time. */
  z.object({ id: z.int(), do: z.literal("traffic") }),
  /** Answers true once the traffic has got an answer to something it asked after this, false when the time is up. */
  z.object({ id: z.int(), do: z.literal("flowing"), timeout_ms: z.int() }),
  /** What the traffic saw since the last mark. */
  z.object({ id: z.int(), do: z.literal("mark") }),
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

export const ClientAnswerSchema = z.discriminatedUnion("event", [
  z.object({ id: z.int(), event: z.literal("progress"), done: z.int() }),
  z.object({ id: z.int(), event: z.literal("result"), result: z.unknown() }),
  z.object({ id: z.int(), event: z.literal("error"), message: z.string() }),
]);
export type ClientAnswer = z.infer<typeof ClientAnswerSchema>;

/** What a session asks its client process (lab/client-process.ts), and what that one answers. */
import * as z from "zod/mini";
import { ApplicationSchema } from "../records.js";
import { WindowSchema } from "./timeline.js";

/** The client's one argument, as JSON. */
export const ClientOptionsSchema = z.object({
  application: ApplicationSchema,
  host: z.string(),
  port: z.int(),
  connections: z.int().check(z.minimum(1)),
  /** Size of the data, about. */
  bytes: z.int().check(z.minimum(1)),
});
export type ClientOptions = z.infer<typeof ClientOptionsSchema>;

export const ClientRequestSchema = z.discriminatedUnion("do", [
  /** Answers true once the application answers, false when the time is up. */
  z.object({ do: z.literal("ready"), timeout_ms: z.int() }),
  /** Fills the application with data; progress is the part done. Answers with what an operation is, for people. */
  z.object({ do: z.literal("load") }),
  /** Begins to ask, and to write down every operation. */
  z.object({ do: z.literal("resume") }),
  /** TimelineSchema of what was written down. */
  z.object({ do: z.literal("timeline"), window: WindowSchema }),
  /**
   * Stops asking once every answer is there (a connection without one after `timeout_ms` is lost), looks at all the data, and
   * answers with FaultsSchema since the last time.
   */
  z.object({ do: z.literal("settle"), timeout_ms: z.int() }),
]);
export type ClientRequest = z.infer<typeof ClientRequestSchema>;

export const OperationTextSchema = z.string();

export const FaultsSchema = z.object({ connections_lost: z.int(), wrong_answers: z.int() });
export type Faults = z.infer<typeof FaultsSchema>;

/** How a client process in the lab's network namespace is asked and answers: NDJSON lines on its stdin and stdout. */
import * as z from "zod/mini";

/** `request` is for the schema of the program that is asked. */
export const QuestionSchema = z.object({ id: z.int(), request: z.unknown() });

export const AnswerSchema = z.discriminatedUnion("event", [
  z.object({ id: z.int(), event: z.literal("progress"), done: z.number() }),
  z.object({ id: z.int(), event: z.literal("result"), result: z.unknown() }),
  z.object({ id: z.int(), event: z.literal("error"), message: z.string() }),
]);
export type Answer = z.infer<typeof AnswerSchema>;

/** The client process's side of client-process.ts. */
import { createInterface } from "node:readline";
import type * as z from "zod/mini";
import { type Answer, QuestionSchema } from "./client-messages.js";

const PROGRESS_MS = 200;

/**
 * Answers requests from stdin on stdout, several at a time, and ends the process when stdin ends. `answer` may report how far it is
 * as often as it likes. What it throws is the request's error; a line that is no request ends the process.
 */
export function serveRequests<S extends z.ZodMiniType>(
  schema: S,
  answer: (request: z.infer<S>, progress: (done: number) => void) => Promise<unknown>,
): void {
  const say = (line: Answer): void => void process.stdout.write(`${JSON.stringify(line)}\n`);
  const serve = async (line: string): Promise<void> => {
    const { id, request } = QuestionSchema.parse(JSON.parse(line));
    const parsed = schema.parse(request);
    let last = 0;
    try {
      const result = await answer(parsed, (done) => {
        if (performance.now() - last < PROGRESS_MS) return;
        last = performance.now();
        say({ id, event: "progress", done });
      });
      say({ id, event: "result", result: result ?? null });
    } catch (error) {
      say({ id, event: "error", message: error instanceof Error ? error.message : String(error) });
    }
  };
  const input = createInterface({ input: process.stdin });
  input.on("line", (line) => void serve(line));
  input.on("close", () => process.exit(0));
  // A Ctrl-C at the terminal reaches the whole process group; whoever asks says when this process ends.
  process.on("SIGINT", () => undefined);
}

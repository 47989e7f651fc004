/** What every route does: read a body by its schema, answer by a schema, stream events. */
import type { Context } from "hono";
import type * as z from "zod/mini";
import { MwarpError } from "../errors.js";
import { encodeLine } from "../protocol/ndjson.js";
import { errorBody, httpStatus } from "./errors.js";

/** Largest JSON body taken, bytes. */
const MAX_BODY_BYTES = 1024 * 1024;

/** @throws MWARP_E_USAGE when the body is not JSON of this shape */
export async function readBody<S extends z.ZodMiniType>(c: Context, schema: S): Promise<z.infer<S>> {
  const length = Number(c.req.header("content-length") ?? "0");
  if (length > MAX_BODY_BYTES) throw new MwarpError("MWARP_E_USAGE", "the request body is too long");
  return parseRequest(schema, await c.req.text());
}

/** Parses JSON text that came from a client. @throws MWARP_E_USAGE naming each field that is wrong */
export function parseRequest<S extends z.ZodMiniType>(schema: S, text: string): z.infer<S> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new MwarpError("MWARP_E_USAGE", "the request body is not JSON", { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new MwarpError("MWARP_E_USAGE", "the request is not as the API wants it", {
    details: parsed.error.issues.map((issue) => `${issue.path.join(".") || "body"}: ${issue.message}`),
  });
}

/** A JSON answer; a value that does not fit its schema is a defect and becomes an internal error. */
export function reply<S extends z.ZodMiniType>(c: Context, schema: S, value: z.input<S>): Response {
  return c.json(schema.parse(value) as object);
}

export function errorReply(thrown: unknown): Response {
  const body = errorBody(thrown);
  const status = httpStatus(new MwarpError(body.code, body.message));
  return Response.json(body, { status });
}

/**
 * An NDJSON answer. An error in the middle becomes the last line, `{"event":"error"}`: the status has gone out by then.
 * A client that goes away ends the generator.
 */
export function streamReply<S extends z.ZodMiniType>(
  schema: S,
  events: AsyncGenerator<z.infer<S>, void>,
): Response {
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await events.next();
        if (done) controller.close();
        else controller.enqueue(encodeLine(schema.parse(value)));
      } catch (error) {
        controller.enqueue(encodeLine({ event: "error", error: errorBody(error) }));
        controller.close();
      }
    },
    async cancel() {
      await events.return();
    },
  });
  return new Response(body, { headers: { "content-type": "application/x-ndjson" } });
}

import { Hono } from "hono";
import * as z from "zod/mini";
import {
  AttachEventSchema,
  AttachRequestSchema,
  ContainerListingSchema,
  ContainerListSchema,
  ContainerRemovedSchema,
  ContainerStoppedSchema,
  ExecEventSchema,
  ExecRequestSchema,
  LogEventSchema,
  RunRequestSchema,
} from "../../protocol/api.js";
import { StopSchema } from "../../protocol/restart.js";
import { parseRequest, readBody, reply, streamReply } from "../http.js";
import type { Services } from "../services.js";
import { readHead } from "../upstream.js";

const LogQuerySchema = z.object({
  follow: z.boolean(),
  tail: z.nullable(z.int().check(z.minimum(0))),
});

export function containerRoutes({ attachments, containers, runs }: Services): Hono {
  const app = new Hono();
  app.get("/", async (c) => reply(c, ContainerListSchema, await containers.list(c.req.raw.signal)));
  app.post("/", async (c) => {
    const request = await readBody(c, RunRequestSchema);
    return reply(c, ContainerListingSchema, await runs.run(request, c.req.raw.signal));
  });
  app.delete("/:name", async (c) => {
    const options = { force: c.req.query("force") === "true", volumes: c.req.query("volumes") === "true" };
    const name = await containers.remove(c.req.param("name"), options, c.req.raw.signal);
    return reply(c, ContainerRemovedSchema, { name });
  });
  app.post("/:name/stop", async (c) => {
    const request = await readBody(c, StopSchema);
    const { raw } = c.req;
    return reply(c, ContainerStoppedSchema, await containers.stop(c.req.param("name"), request, raw.signal));
  });
  app.post("/:name/start", async (c) =>
    reply(c, ContainerListingSchema, await containers.start(c.req.param("name"), c.req.raw.signal)),
  );
  app.post("/:name/exec", async (c) => {
    const { head, rest } = await readHead(c.req.raw.body);
    const request = parseRequest(ExecRequestSchema, head);
    const call = { stdin: rest, signal: c.req.raw.signal };
    return streamReply(ExecEventSchema, await containers.exec(c.req.param("name"), request, call));
  });
  app.post("/:name/attach", async (c) => {
    const { head, rest } = await readHead(c.req.raw.body);
    const request = parseRequest(AttachRequestSchema, head);
    const call = { frames: rest, signal: c.req.raw.signal };
    return streamReply(AttachEventSchema, attachments.attach(c.req.param("name"), request, call));
  });
  app.get("/:name/logs", async (c) => {
    const tail = c.req.query("tail");
    const query = {
      follow: c.req.query("follow") === "true",
      tail: tail === undefined ? null : Number(tail),
    };
    const options = parseRequest(LogQuerySchema, JSON.stringify(query));
    return streamReply(LogEventSchema, await containers.logs(c.req.param("name"), options, c.req.raw.signal));
  });
  return app;
}

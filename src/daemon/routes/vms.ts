import { Hono } from "hono";
import {
  EmptySchema,
  ExecEventSchema,
  VmEndpointSchema,
  VmExecRequestSchema,
  VmListingSchema,
  VmListSchema,
} from "../../protocol/api.js";
import { parseRequest, readBody, reply, streamReply } from "../http.js";
import type { Services } from "../services.js";
import { readHead } from "../upstream.js";

export function vmRoutes({ vms }: Services): Hono {
  const app = new Hono();
  app.get("/", async (c) => reply(c, VmListSchema, { vms: await vms.list(c.req.raw.signal) }));
  app.post("/", async (c) => {
    const endpoint = await readBody(c, VmEndpointSchema);
    return reply(c, VmListingSchema, await vms.attach(endpoint, c.req.raw.signal));
  });
  app.delete("/:name", (c) => {
    vms.detach(c.req.param("name"));
    return reply(c, EmptySchema, {});
  });
  app.post("/:name/exec", async (c) => {
    const { head, rest } = await readHead(c.req.raw.body);
    const { argv } = parseRequest(VmExecRequestSchema, head);
    const call = { stdin: rest, signal: c.req.raw.signal };
    return streamReply(ExecEventSchema, vms.exec(c.req.param("name"), argv, call));
  });
  return app;
}

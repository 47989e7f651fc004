import { Hono } from "hono";
import { VolumeListingSchema, VolumeListSchema } from "../../protocol/api.js";
import { reply } from "../http.js";
import type { Services } from "../services.js";

export function volumeRoutes({ volumes }: Services): Hono {
  const app = new Hono();
  app.get("/", async (c) => reply(c, VolumeListSchema, await volumes.list(c.req.raw.signal)));
  app.delete("/:name", async (c) => {
    const vm = c.req.query("vm") ?? null;
    return reply(c, VolumeListingSchema, await volumes.remove(c.req.param("name"), vm, c.req.raw.signal));
  });
  return app;
}

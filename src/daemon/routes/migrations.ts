import { Hono } from "hono";
import {
  MigrationCancelSchema,
  MigrationListSchema,
  MigrationPlanSchema,
  MigrationRecordSchema,
  MigrationStartedSchema,
  MigrationStreamEventSchema,
  MigrationTableSchema,
} from "../../protocol/api.js";
import { MigrationRequestSchema } from "../../protocol/migration.js";
import { readBody, reply, streamReply } from "../http.js";
import type { Services } from "../services.js";

export function migrationRoutes({ migrations }: Services): Hono {
  const app = new Hono();
  app.get("/", (c) => reply(c, MigrationListSchema, { migrations: migrations.list() }));
  app.post("/", async (c) => {
    const request = await readBody(c, MigrationRequestSchema);
    return reply(c, MigrationStartedSchema, { id: await migrations.start(request, c.req.raw.signal) });
  });
  app.post("/plan", async (c) => {
    const request = await readBody(c, MigrationRequestSchema);
    return reply(c, MigrationPlanSchema, await migrations.plan(request, c.req.raw.signal));
  });
  app.get("/:id", (c) => reply(c, MigrationRecordSchema, migrations.get(c.req.param("id"))));
  app.get("/:id/table", (c) => reply(c, MigrationTableSchema, migrations.table(c.req.param("id"))));
  app.delete("/:id", (c) => reply(c, MigrationCancelSchema, migrations.cancel(c.req.param("id"))));
  app.get("/:id/events", (c) => {
    const { id } = migrations.get(c.req.param("id"));
    return streamReply(MigrationStreamEventSchema, migrations.events(id, c.req.raw.signal));
  });
  return app;
}

/** The API as one hono application. */
import { Hono } from "hono";
import { MwarpError } from "../errors.js";
import {
  API_VERSION,
  EmptySchema,
  RecoveryListSchema,
  ShutdownRequestSchema,
  VersionSchema,
} from "../protocol/api.js";
import type { Build } from "../protocol/build.js";
import { errorReply, readBody, reply } from "./http.js";
import { containerRoutes } from "./routes/containers.js";
import { migrationRoutes } from "./routes/migrations.js";
import { vmRoutes } from "./routes/vms.js";
import { volumeRoutes } from "./routes/volumes.js";
import type { Services } from "./services.js";

/** What the API may ask of the process it runs in. */
export interface Lifetime {
  readonly startedAt: string;
  readonly build: Build;
  readonly stopping: boolean;
  /** Begins the end; returns at once. */
  stop(): void;
}

export function createApp(services: Services, lifetime: Lifetime): Hono {
  const app = new Hono();
  app.use(async (c, next) => {
    if (lifetime.stopping && c.req.method === "POST")
      throw new MwarpError("MWARP_E_BUSY", "the daemon is stopping");
    await next();
  });
  app.get("/v1/version", (c) =>
    reply(c, VersionSchema, {
      api: API_VERSION,
      ...lifetime.build,
      pid: process.pid,
      startedAt: lifetime.startedAt,
      busy: services.locks.size,
    }),
  );
  app.post("/v1/shutdown", async (c) => {
    const { ifUnused } = await readBody(c, ShutdownRequestSchema);
    if (ifUnused)
      refuseIfUsed(
        services,
        (await services.vms.list(c.req.raw.signal)).map((vm) => vm.name),
      );
    lifetime.stop();
    return reply(c, EmptySchema, {});
  });
  app.post("/v1/recover", async (c) =>
    reply(c, RecoveryListSchema, { actions: await services.migrations.recover(c.req.raw.signal) }),
  );
  app.route("/v1/vms", vmRoutes(services));
  app.route("/v1/containers", containerRoutes(services));
  app.route("/v1/volumes", volumeRoutes(services));
  app.route("/v1/migrations", migrationRoutes(services));
  app.notFound((c) =>
    errorReply(new MwarpError("MWARP_E_PROTOCOL", `the API has no ${c.req.method} ${c.req.path}`)),
  );
  app.onError((error, c) => {
    const { method, path } = c.req;
    if (!(error instanceof MwarpError)) services.log.error({ err: error, method, path }, "request failed");
    else services.log.info({ code: error.code, message: error.message, method, path }, "request refused");
    return errorReply(error);
  });
  return app;
}

function refuseIfUsed(services: Services, vms: readonly string[]): void {
  if (services.locks.size > 0)
    throw new MwarpError("MWARP_E_BUSY", `${services.locks.size} operation(s) are running`);
  if (vms.length > 0) throw new MwarpError("MWARP_E_BUSY", `VMs are attached: ${vms.join(", ")}`);
}

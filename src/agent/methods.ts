/** Every method of the agent protocol, and what serves it. */
import type { AgentMethod, AgentParams, AgentResult } from "../protocol/agent.js";
import { attachContainer } from "./containers/attach.js";
import { removeContainer, runContainer } from "./containers/lifecycle.js";
import { containerLogs } from "./containers/logs.js";
import { startContainer, stopContainer } from "./containers/restart.js";
import { listContainers } from "./containers/store.js";
import { directoryToken, listVolumes, removeVolume } from "./containers/volumes.js";
import { containerExec, guestExec } from "./exec.js";
import { guestInfo } from "./info.js";
import * as destination from "./migration/destination.js";
import * as destinationEnd from "./migration/destination-end.js";
import { inspect } from "./migration/inspect.js";
import { destinationLinks, sourceLinks } from "./migration/links.js";
import * as pageServer from "./migration/page-server.js";
import { preDump } from "./migration/pre-dump.js";
import * as source from "./migration/source.js";
import * as sourceEnd from "./migration/source-end.js";
import { endForgottenDumps } from "./migration/stand-by.js";
import { rootfsHas, rootfsPut } from "./rootfs.js";
import type { DownStream, UpStream } from "./streams.js";
import { Turns } from "./turns.js";

/** What a handler has besides its parameters. `signal` ends when the host cancels or connects anew. */
export interface RequestContext {
  readonly signal: AbortSignal;
  readonly up: UpStream;
  readonly down: DownStream;
}

export type Handlers = {
  readonly [M in AgentMethod]: (params: AgentParams<M>, context: RequestContext) => Promise<AgentResult<M>>;
};

interface OfMigration {
  readonly migration: string;
}

export function createHandlers(tools: source.Tools): Handlers {
  const turns = new Turns();
  const { helper, keeper } = tools;

  /** A step that waits for its turn and stops when the host hangs up. */
  const step =
    <P extends OfMigration, R>(work: (params: P, context: RequestContext) => Promise<R>) =>
    (params: P, context: RequestContext): Promise<R> =>
      turns.run(params.migration, context.signal, (signal) => work(params, { ...context, signal }));

  /** A step that, once begun, goes through whoever hangs up: it settles where the container lives. Only another such step ends it. */
  const last =
    <P extends OfMigration, R>(work: (params: P, signal: AbortSignal) => Promise<R>) =>
    (params: P): Promise<R> =>
      turns.interrupt(params.migration, (signal) => work(params, signal));

  return {
    hello: () => guestInfo("to greet"),
    info: () => guestInfo("to know"),
    "guest.exec": guestExec,
    "rootfs.has": (params) => rootfsHas(params),
    "rootfs.put": rootfsPut,
    "container.run": ({ spec }) => keeper.exclusive(spec.name, () => runContainer(spec, helper)),
    "container.list": async () => ({ containers: await listContainers() }),
    "container.exec": containerExec,
    "container.logs": containerLogs,
    "container.attach": attachContainer,
    "container.stop": (params) => keeper.exclusive(params.name, () => stopContainer(params)),
    "container.start": (params) => keeper.exclusive(params.name, () => startContainer(params, helper)),
    "container.remove": (params) =>
      keeper.exclusive(params.name, async () => {
        await removeContainer(params, helper);
        await endForgottenDumps(params.name);
        return {};
      }),
    "volume.list": () => listVolumes(),
    "volume.remove": (params) => removeVolume(params),
    "directory.token": (params) => directoryToken(params),
    "source.inspect": (params) => inspect(params, helper),
    "source.prepare": step((params) => keeper.exclusive(params.name, () => source.prepare(params))),
    "source.preDump": step((params, { signal }) => preDump(params, signal)),
    "source.stageable": (params) => source.stageableMemory(params, tools),
    "source.standBy": step((params, { signal }) => source.standBy(params, signal, tools)),
    "source.freeze": step((params) => source.freezeSource(params, tools)),
    "source.dump": step((params, context) => source.dump(params, context, tools)),
    "source.images": step((params, { down }) => source.largeImages(params, down)),
    "source.holdImages": step(source.holdLargeImages),
    "source.servePages": step((params, context) => source.servePages(params, context, tools)),
    "source.readPages": step((params, context) => source.readPages(params, context, tools)),
    "source.layer": step(source.layer),
    "source.known": step(source.known),
    "source.links": step(sourceLinks),
    "source.retire": last((params) => sourceEnd.retireSource(params, tools)),
    "source.abort": last((params) => sourceEnd.abortSource(params, tools)),
    "destination.prepare": step((params, { signal }) => destination.prepare(params, signal, tools)),
    "destination.staged": step((params, { signal }) => destination.staged(params, signal, tools)),
    "destination.pageServer": step((params, { signal }) => pageServer.startPageServer(params, signal)),
    "destination.received": step((params, { signal }) => pageServer.received(params, signal)),
    "destination.images": step(destination.images),
    "destination.holdImages": step(destination.holdImages),
    "destination.layer": step((params, context) => destination.layer(params, context, tools)),
    "destination.links": step(destinationLinks),
    "destination.restore": step((params, context) => destination.restore(params, context, tools)),
    "destination.pagesCome": step((params, { signal }) => destination.pagesCome(params, signal)),
    "destination.populate": step((params) => destination.populate(params, tools)),
    "destination.writePages": step((params, context) => destination.writePages(params, context, tools)),
    "destination.resume": last((params) => destinationEnd.resume(params, tools)),
    "destination.finish": last((params, signal) => destinationEnd.finish(params, signal, tools)),
    "destination.abort": last((params) => destinationEnd.abortDestination(params, tools)),
  };
}

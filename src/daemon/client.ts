/** The typed client of the daemon's API: HTTP on a UNIX socket, every body checked by its schema. */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod/mini";
import { isMwarpError, MwarpError } from "../errors.js";
import * as api from "../protocol/api.js";
import type { MigrationRequest } from "../protocol/migration.js";
import { decodeLines, encodeLine } from "../protocol/ndjson.js";
import type { StopRequest } from "../protocol/restart.js";

interface Call {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly body?: unknown;
  readonly signal?: AbortSignal | undefined;
}

export type VmEndpointInput = z.infer<typeof api.VmEndpointSchema>;

/** What a command in a guest or container sends out; `write` may return a promise to slow it down. */
export interface ExecIo {
  /** Null: the command gets an empty stdin. */
  readonly stdin: Readable | null;
  readonly write: (fd: 1 | 2, data: Buffer) => void | Promise<void>;
  readonly signal?: AbortSignal;
}

/** Whoever is attached. */
export interface AttachIo {
  /** Frames of protocol/terminal.ts, as bytes. */
  readonly frames: Readable;
  readonly write: (fd: 1 | 2, data: Buffer) => void | Promise<void>;
  /** The container is in this VM now. */
  readonly attached: (vm: string, terminal: boolean) => void;
  readonly signal?: AbortSignal;
}

const AGENTS_MS = 90_000;
const AGENTS_POLL_MS = 100;

/** Errors of every method: what the daemon answers, or MWARP_E_DAEMON_UNREACHABLE. */
export class DaemonClient {
  readonly #socket: string;

  constructor(socket: string) {
    this.#socket = socket;
  }

  version(signal?: AbortSignal): Promise<api.Version> {
    return this.#json(api.VersionSchema, { method: "GET", path: "/v1/version", signal });
  }

  async shutdown(options: api.ShutdownRequest): Promise<void> {
    await this.#json(api.EmptySchema, { method: "POST", path: "/v1/shutdown", body: options });
  }

  vms(signal?: AbortSignal): Promise<api.VmList> {
    return this.#json(api.VmListSchema, { method: "GET", path: "/v1/vms", signal });
  }

  attachVm(endpoint: VmEndpointInput): Promise<api.VmListing> {
    return this.#json(api.VmListingSchema, { method: "POST", path: "/v1/vms", body: endpoint });
  }

  async detachVm(name: string): Promise<void> {
    await this.#json(api.EmptySchema, { method: "DELETE", path: `/v1/vms/${encodeURIComponent(name)}` });
  }

  /** Runs a command as root in the guest; resolves with its exit code. */
  execInVm(name: string, argv: readonly string[], io: ExecIo): Promise<number> {
    return this.#exec(`/v1/vms/${encodeURIComponent(name)}/exec`, { argv }, io);
  }

  containers(signal?: AbortSignal): Promise<api.ContainerList> {
    return this.#json(api.ContainerListSchema, { method: "GET", path: "/v1/containers", signal });
  }

  run(request: api.RunRequest, signal?: AbortSignal): Promise<api.ContainerListing> {
    const path = "/v1/containers";
    return this.#json(api.ContainerListingSchema, { method: "POST", path, body: request, signal });
  }

  /** Runs a command in a container; resolves with its exit code. */
  exec(name: string, request: api.ExecRequest, io: ExecIo): Promise<number> {
    return this.#exec(`/v1/containers/${encodeURIComponent(name)}/exec`, request, io);
  }

  /** Until the container ends, wherever it moves to; resolves with its exit code. */
  async attach(name: string, request: api.AttachRequest, io: AttachIo): Promise<number> {
    const path = `/v1/containers/${encodeURIComponent(name)}/attach`;
    const call = { method: "POST", path, signal: io.signal } as const;
    const events = this.#stream(api.AttachEventSchema, call, (body) => {
      body.write(encodeLine(request));
      io.frames.pipe(body);
    });
    try {
      for await (const event of events) {
        if (event.event === "data") await io.write(event.fd, Buffer.from(event.base64, "base64"));
        else if (event.event === "attached") io.attached(event.vm, event.terminal);
        else if (event.event === "exit") return event.exitCode;
      }
    } finally {
      io.frames.unpipe();
    }
    throw cutOff();
  }

  async *logs(
    name: string,
    options: { follow: boolean; tail: number | null },
    signal?: AbortSignal,
  ): AsyncGenerator<api.LogEntry, void> {
    const query = new URLSearchParams({ follow: String(options.follow) });
    if (options.tail !== null) query.set("tail", String(options.tail));
    const path = `/v1/containers/${encodeURIComponent(name)}/logs?${query}`;
    for await (const event of this.#stream(api.LogEventSchema, { method: "GET", path, signal }))
      if (event.event === "line") yield event.entry;
  }

  /** Ends a container; resolves with its full name and exit code. */
  stop(name: string, request: StopRequest, signal?: AbortSignal): Promise<api.ContainerStopped> {
    const path = `/v1/containers/${encodeURIComponent(name)}/stop`;
    return this.#json(api.ContainerStoppedSchema, { method: "POST", path, body: request, signal });
  }

  /** Starts a container that has ended. */
  start(name: string, signal?: AbortSignal): Promise<api.ContainerListing> {
    const path = `/v1/containers/${encodeURIComponent(name)}/start`;
    return this.#json(api.ContainerListingSchema, { method: "POST", path, signal });
  }

  /** Removes a container and returns its full name. */
  async remove(name: string, options: { force: boolean; volumes?: boolean }): Promise<string> {
    const query = `force=${options.force}&volumes=${options.volumes ?? false}`;
    const path = `/v1/containers/${encodeURIComponent(name)}?${query}`;
    return (await this.#json(api.ContainerRemovedSchema, { method: "DELETE", path })).name;
  }

  volumes(signal?: AbortSignal): Promise<api.VolumeList> {
    return this.#json(api.VolumeListSchema, { method: "GET", path: "/v1/volumes", signal });
  }

  removeVolume(name: string, vm: string | null): Promise<api.VolumeListing> {
    const where = vm === null ? "" : `?vm=${encodeURIComponent(vm)}`;
    const path = `/v1/volumes/${encodeURIComponent(name)}${where}`;
    return this.#json(api.VolumeListingSchema, { method: "DELETE", path });
  }

  /** Waits until the agents of these VMs answer. @throws MWARP_E_AGENT_UNREACHABLE naming what each VM says, after 90 s */
  async agentsReady(names: readonly string[], signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + AGENTS_MS;
    for (;;) {
      const { vms } = await this.vms(signal);
      const stateOf = (name: string): string => vms.find((vm) => vm.name === name)?.state ?? "not there";
      if (names.every((name) => stateOf(name) === "ready")) return;
      if (performance.now() > deadline)
        throw new MwarpError("MWARP_E_AGENT_UNREACHABLE", "not all of the VMs' agents answer", {
          details: names.map((name) => {
            const error = vms.find((vm) => vm.name === name)?.error;
            return `${name}: ${error?.message ?? stateOf(name)}`;
          }),
        });
      await sleep(AGENTS_POLL_MS, undefined, { signal });
    }
  }

  /** Removes a container, running or not, when there is one of that name. */
  async removeIfThere(name: string): Promise<void> {
    try {
      await this.remove(name, { force: true });
    } catch (error) {
      if (!isMwarpError(error, "MWARP_E_CONTAINER_UNKNOWN")) throw error;
    }
  }

  async startMigration(request: MigrationRequest): Promise<string> {
    const body = { method: "POST", path: "/v1/migrations", body: request } as const;
    return (await this.#json(api.MigrationStartedSchema, body)).id;
  }

  planMigration(request: MigrationRequest): Promise<api.MigrationPlan> {
    const path = "/v1/migrations/plan";
    return this.#json(api.MigrationPlanSchema, { method: "POST", path, body: request });
  }

  /** Every event from the first on, until the migration has ended. */
  async *migrationEvents(
    id: string,
    signal?: AbortSignal,
  ): AsyncGenerator<Exclude<api.MigrationStreamEvent, { event: "end" | "error" }>, void> {
    const path = `/v1/migrations/${encodeURIComponent(id)}/events`;
    for await (const event of this.#stream(api.MigrationStreamEventSchema, { method: "GET", path, signal }))
      if (event.event !== "end" && event.event !== "error") yield event;
  }

  cancelMigration(id: string): Promise<api.MigrationCancel> {
    const path = `/v1/migrations/${encodeURIComponent(id)}`;
    return this.#json(api.MigrationCancelSchema, { method: "DELETE", path });
  }

  migrations(): Promise<z.infer<typeof api.MigrationListSchema>> {
    return this.#json(api.MigrationListSchema, { method: "GET", path: "/v1/migrations" });
  }

  migration(id: string): Promise<api.MigrationRecord> {
    const path = `/v1/migrations/${encodeURIComponent(id)}`;
    return this.#json(api.MigrationRecordSchema, { method: "GET", path });
  }

  /** The mWarp table of a committed warp. @throws MWARP_E_MIGRATION_UNKNOWN when none is kept */
  migrationTable(id: string): Promise<api.MigrationTable> {
    const path = `/v1/migrations/${encodeURIComponent(id)}/table`;
    return this.#json(api.MigrationTableSchema, { method: "GET", path });
  }

  recover(): Promise<z.infer<typeof api.RecoveryListSchema>> {
    return this.#json(api.RecoveryListSchema, { method: "POST", path: "/v1/recover" });
  }

  async #exec(path: string, head: unknown, io: ExecIo): Promise<number> {
    const call = { method: "POST", path, signal: io.signal } as const;
    const events = this.#stream(api.ExecEventSchema, call, (request) => {
      request.write(encodeLine(head));
      if (io.stdin === null) request.end();
      else io.stdin.pipe(request);
    });
    try {
      for await (const event of events) {
        if (event.event === "data") await io.write(event.fd, Buffer.from(event.base64, "base64"));
        else if (event.event === "exit") return event.exitCode;
      }
    } finally {
      io.stdin?.unpipe();
    }
    throw cutOff();
  }

  async #json<S extends z.ZodMiniType>(schema: S, call: Call): Promise<z.infer<S>> {
    const response = await this.#send(call, (request) =>
      request.end(call.body === undefined ? undefined : JSON.stringify(call.body)),
    );
    return parseAs(schema, await readAll(response));
  }

  /** Parsed lines; an `error` line is thrown, a body without its closing line is an error. */
  async *#stream<S extends z.ZodMiniType>(
    schema: S,
    call: Call,
    send: (request: ClientRequest) => void = (request) => request.end(),
  ): AsyncGenerator<z.infer<S>, void> {
    const response = await this.#send(call, send);
    let closing = false;
    try {
      for await (const line of decodeLines(response)) {
        const failed = StreamErrorSchema.safeParse(line);
        if (failed.success) throw fromBody(failed.data.error);
        const event = schema.parse(line);
        closing = isClosing(event);
        yield event;
      }
    } catch (error) {
      if (error instanceof MwarpError || call.signal?.aborted) throw error;
      throw cutOff(error);
    } finally {
      response.destroy();
    }
    if (!closing) throw cutOff();
  }

  /** @throws MWARP_E_DAEMON_UNREACHABLE, or the error the daemon answers with */
  async #send(call: Call, send: (request: ClientRequest) => void): Promise<IncomingMessage> {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = httpRequest({
        socketPath: this.#socket,
        path: call.path,
        method: call.method,
        // A connection for each request: nothing idle is left that a daemon which ends would wait for.
        agent: false,
        headers: { "content-type": "application/json" },
        ...(call.signal === undefined ? {} : { signal: call.signal }),
      });
      request.on("response", resolve);
      request.on("error", (cause: NodeJS.ErrnoException) =>
        reject(call.signal?.aborted ? cause : unreachable(this.#socket, cause)),
      );
      send(request);
    });
    if (response.statusCode === 200) return response;
    throw fromBody(parseAs(api.ErrorBodySchema, await readAll(response)));
  }
}

const StreamErrorSchema = z.object({ event: z.literal("error"), error: api.ErrorBodySchema });

const isClosing = (event: unknown): boolean =>
  typeof event === "object" &&
  event !== null &&
  "event" in event &&
  /^(?:end|exit)$/.test(String(event.event));

/** An error that the daemon reported, as if it had been thrown here. */
export function fromBody(body: api.ErrorBody): MwarpError {
  const phase = body.phase === null ? {} : { phase: body.phase };
  return new MwarpError(body.code, body.message, { hint: body.hint, details: body.details, ...phase });
}

function unreachable(socket: string, cause: NodeJS.ErrnoException): MwarpError {
  if (cause.code === "EACCES")
    return new MwarpError("MWARP_E_NOT_ROOT", `no permission to use ${socket}`, { cause });
  const why = cause.code === "ENOENT" || cause.code === "ECONNREFUSED" ? "no daemon serves" : cause.message;
  return new MwarpError("MWARP_E_DAEMON_UNREACHABLE", `${why}: ${socket}`, { cause });
}

const cutOff = (cause?: unknown): MwarpError =>
  new MwarpError("MWARP_E_DAEMON_UNREACHABLE", "the daemon ended in the middle of its answer", { cause });

async function readAll(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of response) chunks.push(chunk as Buffer);
  } catch (cause) {
    throw cutOff(cause);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parseAs<S extends z.ZodMiniType>(schema: S, text: string): z.infer<S> {
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new MwarpError("MWARP_E_PROTOCOL", "the daemon's answer is not as this mwarp expects it", {
      hint: "Restart the daemon, so that both are of the same build: mwarp daemon stop.",
      cause,
    });
  }
}

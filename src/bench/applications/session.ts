/** An application with its client, started and loaded once, measured around one move after the other. */
import { loadavg } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { DaemonClient } from "../../daemon/client.js";
import { MwarpError } from "../../errors.js";
import type { BackendChoice, MigrationMethod, MigrationReport } from "../../protocol/migration.js";
import { migrate } from "../migrate.js";
import type { Application, ApplicationRecord, Backing } from "../records.js";
import { ApplicationClient } from "./client.js";
import type { Faults } from "./client-protocol.js";
import { monotonicMs } from "./clock.js";
import { type ApplicationLab, containerName, startContainer } from "./container.js";
import { programs } from "./programs.js";
import { checkWindow } from "./timeline.js";

/** PostgreSQL under TCG on a busy host. */
const START_MS = 180_000;
/** The client's connections and the caches of the guest are warm after it. */
const WARM_UP_MS = 1_000;
/** TCP waits up to two minutes between two tries (TCP_RTO_MAX). */
const ANSWERS_MS = 130_000;
const ROLLBACK_TRIES_MS = 10_000;

export interface SessionOptions {
  readonly application: Application;
  readonly backing: Backing;
  readonly daemon: DaemonClient;
  readonly lab: ApplicationLab;
  readonly signal: AbortSignal;
  /** Size of the data, bytes; the application's own default otherwise. */
  readonly bytes?: number;
  readonly connections?: number;
  readonly backend?: BackendChoice;
  /** From the first sample to the command, ms. */
  readonly windowBeforeMs?: number;
  /** From the command to the end of the last sample, whatever the migration takes, ms. */
  readonly windowAfterMs?: number;
  readonly intervalMs?: number;
  /** A word on what goes on, with the part that is done where that is known. */
  readonly onProgress?: (what: string, part: number | null) => void;
}

const defaults = {
  backend: "auto",
  windowBeforeMs: 5_000,
  windowAfterMs: 30_000,
  /** Fine enough to see when the rate is back. */
  intervalMs: 100,
  onProgress: () => undefined,
} as const;

type Settings = Required<SessionOptions> & { readonly namespace: string; readonly vms: readonly string[] };

export class ApplicationSession implements AsyncDisposable {
  readonly #settings: Settings;
  readonly #client: ApplicationClient;
  readonly #description: string;
  #vm: string;

  private constructor(settings: Settings, client: ApplicationClient, vm: string, description: string) {
    this.#settings = settings;
    this.#client = client;
    this.#vm = vm;
    this.#description = description;
  }

  /**
   * Starts the container in the lab's first VM and its client, and loads the data. The root file system is brought into the other VM,
   * too, so that no move has to.
   * @throws MWARP_E_LAB without a lab of two VMs, MWARP_E_TIMEOUT, MWARP_E_CANCELLED, MWARP_E_USAGE for the window
   */
  static async start(options: SessionOptions): Promise<ApplicationSession> {
    const settings = settingsOf(options);
    const { application, daemon, signal, onProgress, vms, bytes, connections, namespace } = settings;
    const { port } = programs[application];
    let client: ApplicationClient | null = null;
    try {
      onProgress(`starting ${application}`, null);
      const host = await startContainer(settings);
      client = new ApplicationClient(namespace, { application, host, port, connections, bytes }, signal);
      await client.ready(START_MS);
      const loading = (part: number): void => onProgress(`loading ${application}`, part);
      const operation = await client.load(loading);
      const description = `${operation}; closed loop, ${connections} connections`;
      return new ApplicationSession(settings, client, vms[0], description);
    } catch (error) {
      await client?.[Symbol.asyncDispose]();
      await daemon.removeIfThere(containerName(application));
      throw error;
    }
  }

  /**
   * Moves the container to the other VM in the middle of its client's work. What the client saw go wrong is in the record.
   * @throws the report's error when the container was not moved; MWARP_E_INTERNAL when the client broke; MWARP_E_CANCELLED
   */
  async measure(method: MigrationMethod, round: number): Promise<ApplicationRecord> {
    const { application, backing, onProgress, vms } = this.#settings;
    const { windowBeforeMs: before, windowAfterMs: after, intervalMs: interval } = this.#settings;
    const to = vms.find((vm) => vm !== this.#vm)!;
    const [load] = loadavg();
    onProgress(`${application}: ${method} ${this.#vm} -> ${to}`, null);
    await this.#client.resume();
    await this.#rest(WARM_UP_MS + before);
    const zero = monotonicMs();
    const report = await this.#move(method, to);
    await this.#rest(zero + after - monotonicMs());
    const timeline = await this.#client.timeline({ zero, before, after, interval });
    const faults = await this.#settle(ANSWERS_MS);
    return {
      kind: "application",
      application,
      backing,
      method,
      round,
      load,
      client: this.#description,
      interval_ms: interval,
      ...timeline,
      faults,
      report,
    };
  }

  /** Ends client and container. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
    await this.#settings.daemon.removeIfThere(containerName(this.#settings.application));
  }

  async #move(method: MigrationMethod, to: string): Promise<MigrationReport> {
    const { daemon, backend, signal, application } = this.#settings;
    const container = containerName(application);
    const report = await migrate(daemon, { container, to, method, backend, strategy: "auto" }, signal);
    if (report.outcome === "committed") {
      this.#vm = to;
      return report;
    }
    // The next measurement begins with a client at rest.
    await this.#settle(ROLLBACK_TRIES_MS);
    throw failureOf(report);
  }

  async #rest(ms: number): Promise<void> {
    try {
      await sleep(Math.max(0, ms), undefined, { signal: this.#settings.signal });
    } catch (cause) {
      throw new MwarpError("MWARP_E_CANCELLED", "interrupted", { cause });
    }
  }

  #settle(timeoutMs: number): Promise<Faults> {
    const { application, onProgress } = this.#settings;
    return this.#client.settle(timeoutMs, (part) => onProgress(`checking ${application}`, part));
  }
}

function settingsOf(options: SessionOptions): Settings {
  const { namespace, vms } = options.lab;
  if (namespace === null || vms.length < 2)
    throw new MwarpError("MWARP_E_LAB", "an application moves between two VMs of a lab that is up");
  const { bytes, connections } = programs[options.application];
  const settings = { bytes, connections, ...defaults, ...options };
  checkWindow({
    before: settings.windowBeforeMs,
    after: settings.windowAfterMs,
    interval: settings.intervalMs,
  });
  return { ...settings, namespace, vms: vms.slice(0, 2).map(({ endpoint }) => endpoint.name) };
}

function failureOf({ error, outcome }: MigrationReport): MwarpError {
  if (error === null)
    return new MwarpError("MWARP_E_INTERNAL", `the migration was ${outcome} without an error`);
  const { code, message, hint, phase, details } = error;
  return new MwarpError(code, message, { hint, phase, details });
}

/** Migrations as a resource: start, follow, cancel, remember. The work itself is the engine's (src/migration/). */
import { MwarpError } from "../errors.js";
import type {
  MigrationCancel,
  MigrationPlan,
  MigrationRecord,
  MigrationStreamEvent,
  MigrationSummary,
  MigrationTable,
  RecoveryAction,
} from "../protocol/api.js";
import type { MigrationEvent, MigrationReport, MigrationRequest } from "../protocol/migration.js";
import type { ContainerService } from "./containers.js";
import type { History } from "./history.js";
import type { ContainerLocks } from "./locks.js";
import type { DaemonLog, EngineHandle, MigrationEngine } from "./ports.js";
import { pick } from "./resolve.js";

interface Running {
  readonly handle: EngineHandle;
  readonly record: MigrationRecord;
  /** Called at each event, then dropped. */
  readonly watchers: Set<() => void>;
  readonly ended: Promise<void>;
}

export interface MigrationDeps {
  readonly engine: MigrationEngine;
  readonly containers: ContainerService;
  readonly locks: ContainerLocks;
  readonly history: History;
  readonly log: DaemonLog;
  /** A migration has ended and its journal has not. */
  readonly onUnsettled: () => void;
}

export class MigrationService {
  readonly #deps: MigrationDeps;
  readonly #running = new Map<string, Running>();
  #recovering: Promise<RecoveryAction[]> | null = null;
  /** Whether all that an earlier daemon left has been looked at once. What is tried again later waits in the engine's queue. */
  #hasRecovered = false;

  constructor(deps: MigrationDeps) {
    this.#deps = deps;
  }

  get running(): number {
    return this.#running.size;
  }

  /**
   * Begins a migration and returns its id; everything after that, refusals too, is told by its events and report.
   * @throws MWARP_E_BUSY while another operation holds the container
   */
  async start(request: MigrationRequest, signal: AbortSignal): Promise<string> {
    const { from, resolved } = await this.#resolve(request, signal);
    if (this.#recovering !== null && !this.#hasRecovered)
      throw new MwarpError("MWARP_E_BUSY", "recovery of earlier migrations is under way");
    const what = `migration to ${resolved.to}`;
    const hold = this.#deps.locks.take(resolved.container, { what });
    let handle: EngineHandle;
    try {
      handle = this.#deps.engine.start(resolved);
    } catch (error) {
      hold[Symbol.dispose]();
      throw error;
    }
    hold.explain({
      what,
      hint: `Wait for it: mwarp wait ${handle.id}; or stop it: mwarp cancel ${handle.id}`,
    });
    this.#follow(handle, { request: resolved, from }, hold);
    return handle.id;
  }

  async plan(request: MigrationRequest, signal: AbortSignal): Promise<MigrationPlan> {
    const { resolved } = await this.#resolve(request, signal);
    return this.#deps.engine.plan(resolved, signal);
  }

  /** @throws MWARP_E_MIGRATION_UNKNOWN */
  cancel(id: string): MigrationCancel {
    const record = this.get(id);
    const running = this.#running.get(record.id);
    return { state: running === undefined ? "done" : running.handle.cancel() };
  }

  /** Oldest first. */
  list(): MigrationSummary[] {
    return this.#records().map(({ events: _events, ...summary }) => summary);
  }

  /** By id or a unique prefix of it. @throws MWARP_E_MIGRATION_UNKNOWN */
  get(wanted: string): MigrationRecord {
    const id = (item: MigrationRecord): string => item.id;
    const found = pick(this.#records(), wanted, { name: id, id });
    if (found === undefined)
      throw new MwarpError("MWARP_E_MIGRATION_UNKNOWN", `there is no migration "${wanted}"`);
    return found;
  }

  /** The mWarp table of a committed warp. @throws MWARP_E_MIGRATION_UNKNOWN */
  table(wanted: string): MigrationTable {
    const { id } = this.get(wanted);
    return { id, runs: this.#deps.engine.table(id) };
  }

  /** All events from the first, then live ones, then `end`. */
  async *events(wanted: string, signal: AbortSignal): AsyncGenerator<MigrationStreamEvent, void> {
    const { id } = this.get(wanted);
    let next = 0;
    const gone = new Promise<void>((resolve) => {
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    while (!signal.aborted) {
      const running = this.#running.get(id);
      const record = running?.record ?? this.get(id);
      while (next < record.events.length) yield record.events[next++]!;
      if (running === undefined) {
        yield { event: "end" };
        return;
      }
      if (running.record.state !== "running") continue;
      await Promise.race([gone, new Promise<void>((resolve) => running.watchers.add(resolve))]);
    }
  }

  /** Finishes or undoes what an earlier daemon left; asking twice at once gives the same answer. */
  recover(signal: AbortSignal): Promise<RecoveryAction[]> {
    this.#recovering ??= this.#recover(signal).finally(() => {
      this.#recovering = null;
      this.#hasRecovered = true;
    });
    return this.#recovering;
  }

  /** Asks every running migration to roll back, and waits until each has ended one way or the other. */
  async drain(): Promise<void> {
    const all = [...this.#running.values()];
    for (const { handle } of all) handle.cancel();
    await Promise.all(all.map(({ ended }) => ended));
  }

  async #recover(signal: AbortSignal): Promise<RecoveryAction[]> {
    const actions = await this.#deps.engine.recover(signal);
    for (const action of actions) {
      const record = this.#deps.history.get(action.migration);
      if (record === undefined) continue;
      // What is still pending says nothing of the commit.
      const committed = action.outcome === "pending" ? record.committed : action.outcome === "committed";
      this.#deps.history.save({ ...record, recovery: action, committed });
    }
    return actions;
  }

  /** Canonical name for a name or id prefix. A name nobody knows stays as it is: the engine refuses it in its report. */
  async #resolve(
    request: MigrationRequest,
    signal: AbortSignal,
  ): Promise<{ resolved: MigrationRequest; from: string | null }> {
    const { containers } = await this.#deps.containers.list(signal);
    const found = pick(containers, request.container, {
      name: (item) => item.container.spec.name,
      id: (item) => item.container.spec.id,
    });
    if (found === undefined) return { resolved: request, from: null };
    return { resolved: { ...request, container: found.container.spec.name }, from: found.vm };
  }

  #follow(handle: EngineHandle, origin: Pick<MigrationRecord, "request" | "from">, lock: Disposable): void {
    const record: MigrationRecord = {
      id: handle.id,
      ...origin,
      startedAt: new Date().toISOString(),
      state: "running",
      phase: null,
      committed: false,
      report: null,
      recovery: null,
      events: [],
      logs: handle.logs,
    };
    const ended = handle.done.then(
      (report) => this.#end(handle.id, report, lock),
      // The contract says `done` never rejects; if it does, the truth is in the journal and recovery finds it.
      (error: unknown) => {
        this.#deps.log.error({ err: error, id: handle.id }, "migration ended without a report");
        this.#end(handle.id, null, lock);
      },
    );
    this.#running.set(handle.id, { handle, record, watchers: new Set(), ended });
    this.#deps.history.save(record);
    handle.subscribe((event) => this.#event(handle.id, event));
  }

  #event(id: string, event: MigrationEvent): void {
    const running = this.#running.get(id);
    if (running === undefined) return;
    const { record } = running;
    record.events.push(event);
    if (event.event === "phase") record.phase = event.phase;
    if (event.event === "committed") record.committed = true;
    wake(running);
  }

  #end(id: string, report: MigrationReport | null, lock: Disposable): void {
    const running = this.#running.get(id)!;
    const { record } = running;
    if (report !== null && record.events.at(-1)?.event !== "done")
      record.events.push({ event: "done", id, report });
    record.state = report === null ? "interrupted" : "done";
    record.report = report;
    if (report?.error != null) this.#deps.log.warn({ id, ...report.error }, `migration ${report.outcome}`);
    else this.#deps.log.info({ id, request: record.request, time: report?.time_ms }, "migration ended");
    record.committed ||= report?.outcome === "committed";
    this.#running.delete(id);
    lock[Symbol.dispose]();
    this.#deps.history.save(record);
    wake(running);
    if (report === null || report.error?.code === "MWARP_E_NEEDS_RECOVERY") this.#deps.onUnsettled();
  }

  #records(): MigrationRecord[] {
    const live = (item: MigrationRecord): MigrationRecord => this.#running.get(item.id)?.record ?? item;
    return this.#deps.history.list().map(live);
  }
}

function wake({ watchers }: Running): void {
  for (const watcher of watchers) watcher();
  watchers.clear();
}

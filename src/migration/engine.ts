/** Starts migrations, plans them and recovers what an earlier daemon left: the one door into this folder. */
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { MwarpError } from "../errors.js";
import type { MigrationPlan, RecoveryAction } from "../protocol/api.js";
import type { MigrationEvent, MigrationReport, MigrationRequest, TableRun } from "../protocol/migration.js";
import type { MemoryLayout, VmEndpoint } from "../vm/types.js";
import type { CostModel } from "../warp/cost-model.js";
import { freeOrphanedMemory } from "../warp/orphaned-memory.js";
import { EventLog } from "./events.js";
import type { VmmIdentity } from "./journal.js";
import { JournalStore, type OpenMigration } from "./journals.js";
import { planMigration } from "./plan.js";
import type { MigrationWorld } from "./ports.js";
import { recoverAll } from "./recovery.js";
import { runMigration } from "./run.js";
import { loadTable } from "./table-file.js";

/** Limit for a migration up to its commit when none is given, ms. */
const DEFAULT_TIMEOUT_MS = 10 * 60_000;

export interface MigrationHandle {
  readonly id: string;
  /** Delivers every event from the first on; the last is `done`. */
  subscribe(listener: (event: MigrationEvent) => void): void;
  /** Asks to roll back. Past the commit it has no effect and says so. */
  cancel(): "cancelling" | "finishing";
  /** Never rejects. */
  readonly done: Promise<MigrationReport>;
  /** Directory with the migration's journal. */
  readonly logs: string;
}

/** What exchanges cost on this host; never rejects. */
export interface CostSource {
  current(): Promise<CostModel>;
}

export class Engine {
  readonly #world: MigrationWorld;
  readonly #journals: JournalStore;
  readonly #running = new Set<string>();
  /** Ends when the last migration in the queue has: two stuns of one VM must not overlap. */
  #queue: Promise<unknown> = Promise.resolve();

  readonly #restart: readonly [string, ...string[]];
  readonly #costs: CostSource;

  /** @param restart command that starts a daemon like this one, for when this one dies in a migration */
  constructor(
    world: MigrationWorld,
    stateDir: string,
    restart: readonly [string, ...string[]],
    costs: CostSource,
  ) {
    this.#world = world;
    this.#journals = new JournalStore(stateDir);
    this.#restart = restart;
    this.#costs = costs;
  }

  /** Starts a migration and returns at once. The caller sees to it that a container is moved only once at a time. */
  start(request: MigrationRequest): MigrationHandle {
    const id = newMigrationId();
    const abort = new AbortController();
    const events = new EventLog();
    const progress = { committed: false };
    mkdirSync(this.#journals.migrationDirectory(id), { recursive: true, mode: 0o700 });
    const ahead = [...this.#running];
    if (ahead.length > 0)
      events.emit({ event: "note", id, message: `waiting for migration ${ahead.join(", ")} to end` });
    this.#running.add(id);
    return {
      id,
      subscribe: (listener) => events.subscribe(listener),
      cancel: () => {
        if (progress.committed) return "finishing";
        abort.abort(new MwarpError("MWARP_E_CANCELLED", "cancelled; rolled back"));
        return "cancelling";
      },
      done: this.#enqueue(() => this.#run(id, request, abort, events, progress)).finally(() =>
        this.#running.delete(id),
      ),
      logs: this.#journals.migrationDirectory(id),
    };
  }

  async plan(request: MigrationRequest, signal: AbortSignal): Promise<MigrationPlan> {
    return planMigration(this.#world, request, this.#unsettled(), signal);
  }

  /** Ids of migrations that have not come to their end and have this VM in them, running or left to be recovered. */
  involving({ pid, startTime }: VmEndpoint): string[] {
    const same = (vm: VmmIdentity): boolean => vm.pid === pid && vm.startTime === startTime;
    return this.#journals
      .open()
      .filter(({ head }) => head !== null && (same(head.vms.from) || same(head.vms.to)))
      .map(({ id }) => id);
  }

  /** What an earlier daemon, or a rollback that could not be finished, has left. */
  #unsettled(): OpenMigration[] {
    return this.#journals.open().filter(({ id }) => !this.#running.has(id));
  }

  /** The mWarp table that is kept of a migration. @throws MWARP_E_MIGRATION_UNKNOWN */
  table(id: string): TableRun[] {
    return loadTable(this.#journals.migrationDirectory(id));
  }

  /**
   * Gives back to the host what VMs that have ended left in memory files that others still map.
   * @returns bytes freed; null when a migration is still to be recovered, which may need frames that nobody maps now
   */
  reclaim(signal: AbortSignal): Promise<number | null> {
    return this.#enqueue(async () => {
      if (this.#journals.open().length > 0) return null;
      const living: { pid: number; layout: MemoryLayout }[] = [];
      for (const name of this.#world.vmNames()) {
        const vm = this.#world.vm(name);
        if (vm === undefined || vm.isGone()) continue;
        const backing = await vm.memoryBacking(signal);
        if (backing.kind === "shared-memfd") living.push({ pid: vm.endpoint.pid, layout: backing.layout });
      }
      return freeOrphanedMemory(living);
    });
  }

  async recover(signal: AbortSignal): Promise<RecoveryAction[]> {
    return this.#enqueue(() => recoverAll(this.#world, this.#journals, this.#running, signal));
  }

  /**
   * One migration at a time, in the order asked for. They would gain nothing side by side: they share the host's memory
   * bandwidth, and each would lengthen the other's downtime. Begun on the next tick at the earliest, so that the caller
   * can subscribe before the first event.
   */
  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(work);
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  async #run(
    id: string,
    request: MigrationRequest,
    abort: AbortController,
    events: EventLog,
    progress: { committed: boolean },
  ): Promise<MigrationReport> {
    const timeoutMs = request.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const timers: NodeJS.Timeout[] = [];
    const limit = (ms: number, passed: string): void => {
      const fire = (): void => {
        if (request.onTimeout === "cancel")
          abort.abort(new MwarpError("MWARP_E_TIMEOUT", `${passed}; rolled back`));
        else events.emit({ event: "note", id, message: `${passed}; it goes on, as asked` });
      };
      timers.push(setTimeout(fire, ms));
    };
    const noLimits = (): void => {
      for (const timer of timers.splice(0)) clearTimeout(timer);
    };
    limit(timeoutMs, `not committed within ${timeoutMs} ms`);
    try {
      const report = await runMigration({
        id,
        request,
        world: this.#world,
        costs: () => this.#costs.current(),
        journalPath: this.#journals.path(id),
        startedAt: new Date().toISOString(),
        restart: this.#restart,
        unsettled: this.#unsettled(),
        signal: abort.signal,
        onFreeze: () => {
          const ms = request.maxDowntimeMs;
          if (ms !== null) limit(ms, `the container stood still for ${ms} ms before the commit`);
        },
        onPhase: (phase, elapsed) => events.emit({ event: "phase", id, phase, elapsed_ms: elapsed }),
        onCommitted: (elapsed) => {
          progress.committed = true;
          noLimits();
          events.emit({ event: "committed", id, elapsed_ms: elapsed });
        },
        onNote: (message) => events.emit({ event: "note", id, message }),
      });
      events.emit({ event: "done", id, report });
      return report;
    } finally {
      noLimits();
    }
  }
}

/** Sorts by time; fits MigrationIdSchema and a path. */
const newMigrationId = (): string => `${Date.now().toString(36)}-${randomBytes(3).toString("hex")}`;

/**
 * What the daemon needs of the rest of mWarp, as small interfaces: the real parts are put in by wire.ts, in-memory ones
 * by tests.
 */
import type { ContainerBuilder } from "../container/builder.js";
import type { AgentCaller } from "../migration/ports.js";
import type { MigrationPlan, RecoveryAction } from "../protocol/api.js";
import type { MigrationEvent, MigrationReport, MigrationRequest, TableRun } from "../protocol/migration.js";
import type { VmHazards } from "../vm/hazards.js";
import type { MemoryBacking, VmEndpoint } from "../vm/types.js";

/** The VMs mWarp knows. Kept on disk: the lab writes it too. */
export interface VmDirectory {
  list(): readonly VmEndpoint[];
  /** @throws MWARP_E_VM_UNKNOWN */
  get(name: string): VmEndpoint;
  /** @throws MWARP_E_NAME_TAKEN, MWARP_E_VM_UNREACHABLE */
  attach(endpoint: VmEndpoint): void;
  /** @throws MWARP_E_VM_UNKNOWN */
  detach(name: string): void;
}

/** Facts of a VMM process. */
export interface VmInspector {
  /** Whether the process that the endpoint names still lives. */
  isAlive(endpoint: VmEndpoint): boolean;
  backing(endpoint: VmEndpoint, signal: AbortSignal): Promise<MemoryBacking>;
  hazards(endpoint: VmEndpoint, signal: AbortSignal): Promise<VmHazards>;
}

/** A connected guest agent. Errors are `MwarpError`s. */
export type GuestAgent = Pick<AgentCaller, "call">;

export interface AgentPool {
  /**
   * The agent of a VM, connected (again) when need be.
   * @throws MWARP_E_VM_UNKNOWN, MWARP_E_AGENT_UNREACHABLE
   */
  agent(vm: string, signal: AbortSignal): Promise<GuestAgent>;
  /** Ends the connection to a VM that was detached. */
  forget(vm: string): void;
  close(): Promise<void>;
}

/** A migration under way. `cancel` asks; `done` always resolves, with the report. */
export interface EngineHandle {
  readonly id: string;
  /** Delivers every event from the first on; the last is `done`. */
  subscribe(listener: (event: MigrationEvent) => void): void;
  cancel(): "cancelling" | "finishing";
  readonly done: Promise<MigrationReport>;
  /** Directory with what this migration keeps on disk, or null. */
  readonly logs: string | null;
}

/** The migration state machine. A refusal is a report, not an exception. */
export interface MigrationEngine {
  start(request: MigrationRequest): EngineHandle;
  plan(request: MigrationRequest, signal: AbortSignal): Promise<MigrationPlan>;
  /** Finishes or undoes by the journal what an earlier daemon left. */
  recover(signal: AbortSignal): Promise<RecoveryAction[]>;
  /** The mWarp table that is kept of a migration. @throws MWARP_E_MIGRATION_UNKNOWN */
  table(id: string): TableRun[];
  /** Ids of migrations that have not come to their end and have this VM in them. */
  involving(endpoint: VmEndpoint): string[];
  /** Gives back what VMs that have ended left in memory: bytes, or null when that must wait for a recovery. */
  reclaim(signal: AbortSignal): Promise<number | null>;
}

/** What exchanging memory costs on this host. */
export interface CostKeeper {
  /** Measures where nothing is known that holds. Never rejects. */
  current(): Promise<unknown>;
  /** Ends a measurement under way. */
  close(): Promise<void>;
}

export interface DaemonLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Time limits, ms. */
export interface DaemonLimits {
  /** For a VM's answer in a listing; then it is shown as unreachable. */
  readonly listing: number;
  /** For a VM's answer to whether it has a container that somebody wants to use. */
  readonly find: number;
  /** Before what an earlier daemon left and could not be settled is tried again; longer each time. */
  readonly recoveryRetry: number;
}

export interface DaemonPorts {
  readonly vms: VmDirectory;
  readonly inspector: VmInspector;
  readonly agents: AgentPool;
  readonly builder: ContainerBuilder;
  readonly engine: MigrationEngine;
  readonly costs: CostKeeper;
  readonly limits: DaemonLimits;
  readonly log: DaemonLog;
}

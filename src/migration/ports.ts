/** What a migration needs of the world: two VMs with agents and reachable memory. The daemon hands in the real ones. */
import type { AgentMethod, AgentParams, AgentResult } from "../protocol/agent.js";
import type { ContainerState } from "../protocol/container.js";
import type { VmHazards } from "../vm/hazards.js";
import type { MemoryBacking, VmEndpoint } from "../vm/types.js";

export interface CallOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  /** Binary payload to the guest. */
  readonly up?: AsyncIterable<Uint8Array>;
  /** Binary payload from the guest, in order. */
  readonly onChunk?: (data: Uint8Array, meta: { fd?: number }) => void | Promise<void>;
}

export interface AgentCaller {
  call<M extends AgentMethod>(
    method: M,
    params: AgentParams<M>,
    options?: CallOptions,
  ): Promise<AgentResult<M>>;
  /** Bytes that have crossed the channel so far. */
  readonly channelBytes: { readonly sent: number; readonly received: number };
}

export interface MigrationVm {
  readonly endpoint: VmEndpoint;
  agent(signal?: AbortSignal): Promise<AgentCaller>;
  /** Looks at the VMM: is guest RAM a shared memfd, and where does it lie. */
  memoryBacking(signal: AbortSignal): Promise<MemoryBacking>;
  /** What forbids to touch the VM's memory now. */
  hazards(signal: AbortSignal): Promise<VmHazards>;
  /** Whether the VMM process has ended. */
  isGone(): boolean;
  /** Lets the VM go on when a stun was cut short; does nothing when it runs. */
  ensureRunning(signal: AbortSignal): Promise<void>;
}

export interface ContainerSurvey {
  readonly containers: readonly { readonly vm: string; readonly container: ContainerState }[];
  readonly unreachable: readonly { readonly vm: string; readonly reason: string }[];
}

export interface MigrationWorld {
  vm(name: string): MigrationVm | undefined;
  vmNames(): string[];
  /** Every container on every VM that answers, and the VMs that do not. */
  containers(signal: AbortSignal): Promise<ContainerSurvey>;
  /** Where the host keeps the archive of a root file system. */
  rootfsFile(digest: string): string;
}

/** The VMs and containers as the migration engine sees them. */
import path from "node:path";
import type { MigrationVm, MigrationWorld } from "../migration/ports.js";
import { ensureRunning } from "../vm/run-state.js";
import type { VmEndpoint } from "../vm/types.js";
import type { LinkPool } from "./agents.js";
import { ContainerService } from "./containers.js";
import { ContainerLocks } from "./locks.js";
import type { DaemonLimits, VmDirectory, VmInspector } from "./ports.js";

interface WorldParts {
  /** Directory of the root file system archives. */
  readonly rootfsStore: string;
  readonly vms: VmDirectory;
  readonly inspector: VmInspector;
  readonly agents: LinkPool;
  readonly limits: DaemonLimits;
}

export function createWorld(parts: WorldParts): MigrationWorld {
  const containers = new ContainerService(parts, new ContainerLocks());
  const find = (name: string): VmEndpoint | undefined => parts.vms.list().find((vm) => vm.name === name);
  return {
    vm: (name) => {
      const endpoint = find(name);
      return endpoint === undefined ? undefined : vmOf(endpoint, parts);
    },
    rootfsFile: (digest) => path.join(parts.rootfsStore, `${digest}.tar`),
    vmNames: () => parts.vms.list().map(({ name }) => name),
    containers: async (signal) => {
      const list = await containers.list(signal, parts.limits.find);
      const unreachable = list.unreachable.map(({ vm, error }) => ({ vm, reason: error.message }));
      return { containers: list.containers, unreachable };
    },
  };
}

function vmOf(endpoint: VmEndpoint, { agents, inspector }: WorldParts): MigrationVm {
  return {
    endpoint,
    agent: (signal = new AbortController().signal) => agents.agent(endpoint.name, signal),
    memoryBacking: (signal) => inspector.backing(endpoint, signal),
    hazards: (signal) => inspector.hazards(endpoint, signal),
    isGone: () => !inspector.isAlive(endpoint),
    ensureRunning: (signal) => ensureRunning(endpoint, signal),
  };
}

/** Containers as an agent lists them. */
import type { ContainerSpec, ContainerState } from "../../../src/protocol/container.js";
import { NEVER_RESTARTED, NO_RESTART } from "../../../src/protocol/restart.js";

export function containerState(name: string, changes: Partial<ContainerState> = {}): ContainerState {
  const digit = (name.charCodeAt(0) % 10).toString();
  const spec: ContainerSpec = {
    name,
    id: Buffer.from(name.padEnd(16, "-")).toString("hex").slice(0, 32),
    rootfs: "ab".repeat(32),
    network: {
      mac: `02:00:00:00:00:0${digit}`,
      ipv4: `10.77.0.10${digit}`,
      prefixLength: 24,
      gateway: null,
      ipv6: null,
    },
    hostname: name,
    runtime: "runc",
    oci: {},
    createdAt: "2026-01-01T00:00:00.000Z",
    restart: NO_RESTART,
    health: null,
  };
  return {
    spec,
    status: "running",
    pid: 100,
    memoryBytes: 1 << 20,
    exitCode: null,
    outOfMemory: false,
    held: null,
    restart: NEVER_RESTARTED,
    health: null,
    ...changes,
  };
}

/** Guests that answer what preflight asks from a table. */
import { MwarpError } from "../../../src/errors.js";
import type { AgentCaller, MigrationVm, MigrationWorld } from "../../../src/migration/ports.js";
import type { AgentMethod, AgentResult } from "../../../src/protocol/agent.js";
import type { ContainerState, Volume } from "../../../src/protocol/container.js";
import type { GuestInfo } from "../../../src/protocol/guest-info.js";
import { NEVER_RESTARTED } from "../../../src/protocol/restart.js";
import type { VmHazards } from "../../../src/vm/hazards.js";
import type { MemoryBacking } from "../../../src/vm/types.js";

export const MIB = 1024 * 1024;
const info: GuestInfo = {
  protocol: 1,
  agentVersion: "0.1.0",
  bootId: "b",
  hostname: "g",
  kernel: "6.12",
  criuVersion: "4.1.1",
  runcVersion: "1.1.15+ds1",
  crun: { version: "1.21", criu: true },
  quickTools: true,
  ipv6: true,
  admitsConnections: true,
  memTotalBytes: 2048 * MIB,
  memAvailableBytes: 1800 * MIB,
  swapTotalBytes: 0,
  transparentHugepages: "always",
  faultCosts: { hugeUs: 100, smallUs: 0.5, takeHugeUs: 1, takeSmallUs: 0.2, moveUs: 3 },
  cpuFlags: ["avx2", "sse2"],
  signalFrameBytes: 3632,
  directMapBase: "0",
  structPage: {
    vmemmapBase: "0",
    bytes: 64,
    flagsOffset: 0,
    compoundHeadOffset: 8,
    mappingOffset: 24,
    refcountOffset: 52,
  },
  taskStruct: { pidOffset: 0, mmOffset: 0, mmPgdOffset: 0 },
  kernelRootGpa: 4096,
};
export const vmIdentity = { pid: 1, startTime: "1" };
const shared = {
  kind: "shared-memfd",
  layout: { regions: [], bytes: 0, hostPageBytes: 4096 },
} as unknown as MemoryBacking;

export const web = (change: Partial<ContainerState> = {}): ContainerState => ({
  spec: { name: "web" } as ContainerState["spec"],
  status: "running",
  pid: 7,
  memoryBytes: 10 * MIB,
  exitCode: null,
  outOfMemory: false,
  held: null,
  restart: NEVER_RESTARTED,
  health: null,
  ...change,
});

export interface Guest {
  info?: Partial<GuestInfo>;
  backing?: MemoryBacking;
  library?: boolean;
  containers?: ContainerState[] | "silent";
  usage?: Partial<AgentResult<"source.inspect">>;
  volumes?: Volume[];
  agent?: "gone";
  hazards?: Partial<VmHazards>;
}

/** A world of guests that answer from a table, and a record of what was asked of them. */
export function makeWorld(guests: Record<string, Guest>): { world: MigrationWorld; asked: string[] } {
  const asked: string[] = [];
  const answering = (name: string, guest: Guest): AgentCaller =>
    ({
      channelBytes: { sent: 0, received: 0 },
      call: async (method: AgentMethod) => {
        asked.push(`${name} ${method}`);
        if (method === "info") return { ...info, ...guest.info };
        if (method !== "source.inspect") throw new Error(`preflight asked for ${method}`);
        return {
          spec: {
            name: "web",
            network: { ipv6: { address: "fd6d:7761:7270::100", prefixLength: 64 } },
            volumes: guest.volumes ?? [],
          },
          tasks: [{ pid: 7, nsPid: 1 }],
          anonymousBytes: 64 * MIB,
          hugeBytes: 0,
          memoryBytes: 1,
          swapBytes: 0,
          memoryLimitBytes: null,
          writableLayerBytes: 0,
          sharedBytes: 0,
          waitingPorts: [],
          unsupported: [],
          needsLibrary: [],
          ...guest.usage,
        };
      },
    }) as unknown as AgentCaller;
  const vm = (name: string, guest: Guest): MigrationVm =>
    ({
      endpoint: { name, ...vmIdentity, vmmSocket: (guest.library ?? true) ? "/x" : null },
      memoryBacking: async () => guest.backing ?? shared,
      hazards: async () => ({ runState: "running", remap: [], change: [], ...guest.hazards }),
      isGone: () => false,
      ensureRunning: async () => undefined,
      agent: async () => {
        if (guest.agent === "gone") throw new MwarpError("MWARP_E_AGENT_UNREACHABLE", "no agent");
        return answering(name, guest);
      },
    }) as unknown as MigrationVm;
  const world: MigrationWorld = {
    vm: (name) => (guests[name] === undefined ? undefined : vm(name, guests[name])),
    vmNames: () => Object.keys(guests),
    rootfsFile: (digest) => `/store/${digest}.tar`,
    containers: async () => ({
      containers: Object.entries(guests).flatMap(([name, { containers = [] }]) =>
        containers === "silent" ? [] : containers.map((container) => ({ vm: name, container })),
      ),
      unreachable: Object.entries(guests)
        .filter(([, guest]) => guest.containers === "silent")
        .map(([name]) => ({ vm: name, reason: "no answer" })),
    }),
  };
  return { world, asked };
}

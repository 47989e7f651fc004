/** In-memory ports: VMs with containers, an agent that answers from them, an engine that a test drives by hand. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type {
  AgentPool,
  DaemonLog,
  DaemonPorts,
  EngineHandle,
  GuestAgent,
  MigrationEngine,
} from "../../../src/daemon/ports.js";
import { type RunningDaemon, startDaemon } from "../../../src/daemon/process.js";
import { MwarpError } from "../../../src/errors.js";
import type { CallOptions } from "../../../src/migration/ports.js";
import { daemonSocket, type Environment, historyDir } from "../../../src/paths.js";
import type { AgentMethod, AgentParams } from "../../../src/protocol/agent.js";
import type { MigrationPlan, MigrationRecord, RecoveryAction } from "../../../src/protocol/api.js";
import type { ContainerSpec, ContainerState, VolumeState } from "../../../src/protocol/container.js";
import type {
  MigrationEvent,
  MigrationReport,
  MigrationRequest,
  TableRun,
} from "../../../src/protocol/migration.js";
import type { MemoryBacking, VmEndpoint } from "../../../src/vm/types.js";
import { moveWeb } from "../../support/requests.js";
import { info } from "../agent/fake-agent.js";
import { FakeBuilder } from "./fake-builder.js";
import { containerState } from "./fake-container.js";
import { report } from "./fake-report.js";

const endpointOf = (name: string, index: number): VmEndpoint => ({
  name,
  pid: 1000 + index,
  startTime: "1",
  qmpSocket: `/run/${name}/qmp`,
  agentSocket: `/run/${name}/agent`,
  vmmSocket: `/run/${name}/vmm`,
  address: `10.77.0.${10 + index}`,
});

/** A guest: its containers, and what was asked of it. */
export class FakeGuest {
  readonly containers: ContainerState[] = [];
  readonly volumes: VolumeState[] = [];
  readonly rootfs = new Set<string>();
  readonly calls: { method: AgentMethod; params: unknown }[] = [];
  uploaded = 0;
  /** Commands that were cancelled. */
  cancelled = 0;
  /** `silent`: never answers until the caller gives up. */
  state: "ready" | "silent" | "gone" = "ready";
  /** Thrown by the next container.run. */
  runError: MwarpError | null = null;
  logText = "";

  readonly agent: GuestAgent = {
    call: (method, params, options) => this.#answer(method, params, options ?? {}) as never,
  };

  async #answer(method: AgentMethod, params: unknown, options: CallOptions): Promise<unknown> {
    this.calls.push({ method, params });
    switch (method) {
      case "info":
        return info;
      case "container.list":
        return { containers: this.containers };
      case "volume.list":
        return { volumes: this.volumes };
      case "volume.remove":
        return {};
      case "rootfs.has":
        return { present: this.rootfs.has((params as AgentParams<"rootfs.has">).digest) };
      case "rootfs.put":
        for await (const chunk of options.up!) this.uploaded += chunk.length;
        this.rootfs.add((params as AgentParams<"rootfs.put">).digest);
        return {};
      case "container.run":
        return this.#run((params as AgentParams<"container.run">).spec);
      case "container.remove":
        return this.#remove((params as AgentParams<"container.remove">).name);
      case "container.stop":
        return this.#end((params as AgentParams<"container.stop">).name, 143);
      case "container.start":
        return this.#end((params as AgentParams<"container.start">).name, null);
      case "container.exec":
      case "guest.exec":
        return this.#exec((params as AgentParams<"guest.exec">).argv, options);
      case "container.logs":
        return this.#logs((params as AgentParams<"container.logs">).follow, options);
      default:
        throw new MwarpError("MWARP_E_INTERNAL", `the fake guest has no ${method}`);
    }
  }

  #run(spec: ContainerSpec): { pid: number } {
    if (this.runError !== null) throw this.runError;
    this.containers.push(containerState(spec.name, { spec }));
    return { pid: 100 };
  }

  /** It ends with that exit code, or (null) runs again. */
  #end(name: string, exitCode: number | null): object {
    const at = this.containers.findIndex((item) => item.spec.name === name);
    const ended = { status: exitCode === null ? "running" : "stopped", exitCode } as const;
    this.containers[at] = { ...this.containers[at]!, ...ended };
    return exitCode === null ? { pid: 100 } : { exitCode };
  }

  #remove(name: string): object {
    const at = this.containers.findIndex((item) => item.spec.name === name);
    if (at < 0) throw new MwarpError("MWARP_E_CONTAINER_UNKNOWN", `no container ${name}`);
    this.containers.splice(at, 1);
    return {};
  }

  /** `cat` echoes stdin, `hang` waits to be cancelled, anything else says its words on stdout and `!` on stderr. */
  async #exec([program, ...words]: string[], options: CallOptions): Promise<{ exitCode: number }> {
    if (program === "cat") {
      for await (const chunk of options.up!) await options.onChunk!(chunk, { fd: 1 });
      return { exitCode: 0 };
    }
    if (program === "hang") {
      await aborted(options.signal!).finally(() => {
        this.cancelled++;
      });
    }
    await options.onChunk!(Buffer.from(words.join(" ")), { fd: 1 });
    await options.onChunk!(Buffer.from("!"), { fd: 2 });
    return { exitCode: 3 };
  }

  async #logs(follow: boolean, options: CallOptions): Promise<object> {
    // In pieces that cut through lines.
    for (let at = 0; at < this.logText.length; at += 7)
      await options.onChunk!(Buffer.from(this.logText.slice(at, at + 7)), {});
    if (follow) await aborted(options.signal!);
    return {};
  }
}

const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    const stop = (): void => reject(new MwarpError("MWARP_E_CANCELLED", "cancelled"));
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop);
  });

export function record(id: string, changes: Partial<MigrationRecord> = {}): MigrationRecord {
  return {
    id,
    request: moveWeb(),
    from: "vm-a",
    startedAt: "2026-01-01T00:00:00.000Z",
    state: "done",
    phase: null,
    committed: false,
    report: null,
    recovery: null,
    events: [],
    logs: null,
    ...changes,
  };
}

/** A migration that goes where the test sends it. */
export class FakeMigration implements EngineHandle {
  readonly logs = null;
  readonly done: Promise<MigrationReport>;
  cancelled = false;
  committed = false;
  readonly #events: MigrationEvent[] = [];
  readonly #listeners: ((event: MigrationEvent) => void)[] = [];
  #resolve: (report: MigrationReport) => void = () => undefined;

  constructor(
    readonly id: string,
    readonly request: MigrationRequest,
  ) {
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  subscribe(listener: (event: MigrationEvent) => void): void {
    for (const event of this.#events) listener(event);
    this.#listeners.push(listener);
  }

  cancel(): "cancelling" | "finishing" {
    if (this.committed) return "finishing";
    this.cancelled = true;
    return "cancelling";
  }

  emit(event: MigrationEvent): void {
    this.#events.push(event);
    for (const listener of this.#listeners) listener(event);
  }

  finish(changes: Partial<MigrationReport> = {}): void {
    const result = report(this.id, this.request, changes);
    this.emit({ event: "done", id: this.id, report: result });
    this.#resolve(result);
  }
}

export class FakeEngine implements MigrationEngine {
  readonly migrations: FakeMigration[] = [];
  /** Called for each new migration: a test's script for it. */
  onStart: (migration: FakeMigration) => void = () => undefined;
  recoveries = 0;

  start(request: MigrationRequest): FakeMigration {
    const migration = new FakeMigration(`m-${this.migrations.length + 1}-000000`, request);
    this.migrations.push(migration);
    queueMicrotask(() => this.onStart(migration));
    return migration;
  }

  async plan(request: MigrationRequest): Promise<MigrationPlan> {
    const { container, to, method, backend } = request;
    const base = { container, from: "vm-a", to, method, backend, memory_bytes: 1 << 30, image_bytes: null };
    return { ...base, strategy: "eager", reasons: [], steps: ["prepare", "dump"], notes: [] };
  }

  /** What the next recovery finds. */
  readonly open: RecoveryAction[] = [];

  async recover(): Promise<RecoveryAction[]> {
    this.recoveries++;
    return this.open.splice(0);
  }

  table(): TableRun[] {
    const place = { task: 1, page: 0x5000, pages: 3, source_frame: 7, destination_frame: 9 };
    return [{ ...place, source_kind: "exclusive", treatment: "exchange" }];
  }

  /** Name of a VM that a migration needs. */
  needed = "";
  involving = ({ name }: VmEndpoint): string[] => (name === this.needed ? ["m-9"] : []);

  async reclaim(): Promise<number> {
    return 0;
  }
}

export const silentLog: DaemonLog = { info: () => undefined, warn: () => undefined, error: () => undefined };

export class FakeHost {
  readonly guests = new Map<string, FakeGuest>();
  readonly engine = new FakeEngine();
  readonly #endpoints: VmEndpoint[] = [];

  constructor(...names: string[]) {
    for (const name of names) this.add(name);
  }

  add(name: string): FakeGuest {
    const guest = new FakeGuest();
    this.guests.set(name, guest);
    this.#endpoints.push(endpointOf(name, this.#endpoints.length));
    return guest;
  }

  guest(name: string): FakeGuest {
    return this.guests.get(name)!;
  }

  ports(directory: string): DaemonPorts {
    return {
      vms: {
        list: () => this.#endpoints,
        get: (name) => this.#find(name),
        attach: (endpoint) => {
          this.guests.set(endpoint.name, new FakeGuest());
          this.#endpoints.push(endpoint);
        },
        detach: (name) => {
          this.#endpoints.splice(this.#endpoints.indexOf(this.#find(name)), 1);
        },
      },
      inspector: {
        isAlive: ({ name }) => this.guests.get(name)?.state !== "gone",
        hazards: async () => ({ runState: "running", remap: [], change: [] }),
        backing: async (): Promise<MemoryBacking> => ({ kind: "unsuitable", reason: "a fake has no memory" }),
      },
      agents: this.#agents(),
      builder: new FakeBuilder(directory),
      engine: this.engine,
      costs: { current: async () => null, close: async () => undefined },
      limits: { listing: 200, find: 300, recoveryRetry: 20 },
      log: silentLog,
    };
  }

  #find(name: string): VmEndpoint {
    const found = this.#endpoints.find((endpoint) => endpoint.name === name);
    if (found === undefined) throw new MwarpError("MWARP_E_VM_UNKNOWN", `no VM is called ${name}`);
    return found;
  }

  #agents(): AgentPool {
    return {
      agent: async (vm, signal) => {
        const guest = this.guest(vm);
        if (guest.state === "silent") await aborted(signal);
        return guest.agent;
      },
      forget: () => undefined,
      close: async () => undefined,
    };
  }
}

export interface TestDaemon extends AsyncDisposable {
  readonly daemon: RunningDaemon;
  readonly socket: string;
  readonly env: Environment;
  readonly directory: string;
}

/** A daemon of fakes on a socket of its own. @param records what an earlier daemon left in the history */
export async function serve(host: FakeHost, ...records: MigrationRecord[]): Promise<TestDaemon> {
  const directory = mkdtempSync(path.join(tmpdir(), "mwarp-test-"));
  const env = { MWARP_RUN_DIR: path.join(directory, "run"), MWARP_STATE_DIR: path.join(directory, "state") };
  mkdirSync(historyDir(env), { recursive: true });
  for (const record of records)
    writeFileSync(path.join(historyDir(env), `${record.id}.json`), JSON.stringify(record));
  const daemon = await startDaemon(env, host.ports(process.cwd()));
  return {
    daemon,
    directory,
    env,
    socket: daemonSocket(env),
    async [Symbol.asyncDispose]() {
      daemon.stop();
      for (const migration of host.engine.migrations) migration.finish();
      await daemon.stopped;
      rmSync(directory, { recursive: true });
    },
  };
}

/** The VMs as the API shows them: each is asked on its own, and one that does not answer hides nothing of the others. */
import { MwarpError } from "../errors.js";
import type { ExecEvent, VmListing } from "../protocol/api.js";
import type { VmEndpoint } from "../vm/types.js";
import { errorBody } from "./errors.js";
import { type ExecCall, streamExec } from "./exec.js";
import type { DaemonPorts } from "./ports.js";

type VmPorts = Pick<DaemonPorts, "vms" | "inspector" | "agents" | "engine" | "limits">;

export class VmService {
  readonly #ports: VmPorts;

  constructor(ports: VmPorts) {
    this.#ports = ports;
  }

  async list(signal: AbortSignal): Promise<VmListing[]> {
    return Promise.all(this.#ports.vms.list().map((endpoint) => this.#look(endpoint, signal)));
  }

  /** Adds a VM that somebody else started. @throws MWARP_E_VM_UNREACHABLE when no such process runs, MWARP_E_NAME_TAKEN */
  async attach(endpoint: VmEndpoint, signal: AbortSignal): Promise<VmListing> {
    if (!this.#ports.inspector.isAlive(endpoint))
      throw new MwarpError("MWARP_E_VM_UNREACHABLE", `no VMM process ${endpoint.pid} runs`);
    this.#ports.vms.attach(endpoint);
    return this.#look(endpoint, signal);
  }

  /** Forgets a VM; it runs on. @throws MWARP_E_VM_UNKNOWN; MWARP_E_BUSY while a migration needs it, or its recovery does */
  detach(name: string): void {
    const [migration] = this.#ports.engine.involving(this.#ports.vms.get(name));
    if (migration !== undefined)
      throw new MwarpError("MWARP_E_BUSY", `${name} is needed by migration ${migration}`, {
        hint: `Wait for it: mwarp wait ${migration}; or settle it: mwarp recover`,
      });
    this.#ports.vms.detach(name);
    this.#ports.agents.forget(name);
  }

  /** Runs a command as root in the guest. */
  exec(name: string, argv: string[], call: ExecCall): AsyncGenerator<ExecEvent, void> {
    this.#ports.vms.get(name);
    return streamExec(async (options) => {
      const agent = await this.#ports.agents.agent(name, call.signal);
      return agent.call("guest.exec", { argv }, options);
    }, call);
  }

  async #look(endpoint: VmEndpoint, outer: AbortSignal): Promise<VmListing> {
    const base = {
      name: endpoint.name,
      pid: endpoint.pid,
      address: endpoint.address,
      library: endpoint.vmmSocket !== null,
    };
    const nothing = { agent: null, containers: null };
    if (!this.#ports.inspector.isAlive(endpoint)) {
      const reason = "the VMM process has ended";
      const memory = notShared(reason);
      const error = errorBody(new MwarpError("MWARP_E_VM_UNREACHABLE", `${endpoint.name}: ${reason}`));
      return { ...base, ...nothing, state: "gone", memory, error };
    }
    const signal = AbortSignal.any([outer, AbortSignal.timeout(this.#ports.limits.listing)]);
    const [memory, agent] = await Promise.allSettled([
      this.#memory(endpoint, signal),
      this.#agent(endpoint.name, signal),
    ]);
    const seen = memory.status === "fulfilled" ? memory.value : notShared(errorBody(memory.reason).message);
    return agent.status === "fulfilled"
      ? { ...base, ...agent.value, memory: seen, state: "ready", error: null }
      : { ...base, ...nothing, memory: seen, state: "unreachable", error: errorBody(agent.reason) };
  }

  async #memory(endpoint: VmEndpoint, signal: AbortSignal): Promise<VmListing["memory"]> {
    const backing = await this.#ports.inspector.backing(endpoint, signal);
    if (backing.kind === "unsuitable") return notShared(backing.reason);
    const { bytes, hostPageBytes, transparentHuge = false } = backing.layout;
    return {
      shared: true,
      bytes,
      host_page_bytes: hostPageBytes,
      transparent_huge: transparentHuge,
      reason: null,
    };
  }

  async #agent(name: string, signal: AbortSignal): Promise<Pick<VmListing, "agent" | "containers">> {
    const agent = await this.#ports.agents.agent(name, signal);
    const options = { signal, timeoutMs: this.#ports.limits.listing };
    const [info, list] = await Promise.all([
      agent.call("info", {}, options),
      agent.call("container.list", {}, options),
    ]);
    return {
      containers: list.containers.length,
      agent: {
        version: info.agentVersion,
        kernel: info.kernel,
        criu: info.criuVersion,
        runc: info.runcVersion,
        crun: info.crun,
        memory_total_bytes: info.memTotalBytes,
        memory_available_bytes: info.memAvailableBytes,
      },
    };
  }
}

const notShared = (reason: string): VmListing["memory"] => ({
  shared: false,
  bytes: null,
  host_page_bytes: null,
  transparent_huge: false,
  reason,
});

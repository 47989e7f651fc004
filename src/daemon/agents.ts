/** One link per VM that mWarp knows; a VM that was ended and started again under its name gets a new one. */
import { MwarpError } from "../errors.js";
import { AgentLink, type GuestAgent } from "../guest/index.js";
import type { VmEndpoint } from "../vm/types.js";
import type { AgentPool, VmDirectory } from "./ports.js";

/** How long a VM's agent may take to answer a new connection, ms. */
const CONNECT_TIMEOUT_MS = 10_000;

interface Entry {
  readonly link: AgentLink;
  /** Tells the VMM process and socket from later ones under the same name. */
  readonly identity: string;
}

export class LinkPool implements AgentPool {
  readonly #vms: VmDirectory;
  readonly #entries = new Map<string, Entry>();

  constructor(vms: VmDirectory) {
    this.#vms = vms;
  }

  async agent(vm: string, signal: AbortSignal): Promise<GuestAgent> {
    const { link } = this.#entry(this.#vms.get(vm));
    try {
      return await link.get(signal, { timeoutMs: CONNECT_TIMEOUT_MS });
    } catch (error) {
      if (error instanceof MwarpError || !signal.aborted) throw error;
      // An aborted wait rejects with the signal's reason, which is a time limit's or the caller's.
      throw new MwarpError("MWARP_E_AGENT_UNREACHABLE", `${vm}: the agent did not answer in time`, {
        cause: error,
      });
    }
  }

  forget(vm: string): void {
    this.#entries.get(vm)?.link.close();
    this.#entries.delete(vm);
  }

  async close(): Promise<void> {
    for (const vm of [...this.#entries.keys()]) this.forget(vm);
  }

  #entry(endpoint: VmEndpoint): Entry {
    const identity = `${endpoint.pid}:${endpoint.startTime}:${endpoint.agentSocket}`;
    const known = this.#entries.get(endpoint.name);
    if (known?.identity === identity) return known;
    this.forget(endpoint.name);
    const entry: Entry = { link: new AgentLink(endpoint.name, endpoint.agentSocket), identity };
    this.#entries.set(endpoint.name, entry);
    return entry;
  }
}

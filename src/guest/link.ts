/** A VM's agent for as long as mWarp knows the VM: connects when first needed, and again after a loss. */
import { type ConnectOptions, connectAgent, type GuestAgent } from "./agent.js";

export type LinkState = "closed" | "connecting" | "open";

export class AgentLink {
  readonly vmName: string;
  readonly socketPath: string;
  #agent: GuestAgent | null = null;
  #connecting: Promise<GuestAgent> | null = null;
  readonly #connect: typeof connectAgent;

  constructor(vmName: string, socketPath: string, connect: typeof connectAgent = connectAgent) {
    this.vmName = vmName;
    this.socketPath = socketPath;
    this.#connect = connect;
  }

  get state(): LinkState {
    if (this.#connecting) return "connecting";
    return this.#agent && !this.#agent.closed ? "open" : "closed";
  }

  /**
   * The open connection, or a new one. Callers share one attempt; `signal` ends only the waiting of its caller, since
   * the attempt has a limit of its own. `MWARP_E_AGENT_UNREACHABLE` when there is no agent.
   */
  async get(signal?: AbortSignal, options: Pick<ConnectOptions, "timeoutMs"> = {}): Promise<GuestAgent> {
    signal?.throwIfAborted();
    if (this.#agent && !this.#agent.closed) return this.#agent;
    this.#connecting ??= this.#connect(this.socketPath, options).then(
      (agent) => {
        this.#agent = agent;
        this.#connecting = null;
        return agent;
      },
      (error: unknown) => {
        this.#connecting = null;
        throw error;
      },
    );
    return signal ? abortable(this.#connecting, signal) : this.#connecting;
  }

  close(): void {
    this.#agent?.close();
    this.#agent = null;
  }
}

function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

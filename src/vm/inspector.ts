/** Facts of VMM processes for callers that hold only an endpoint. The layout is looked for once per VMM start. */
import { MwarpError } from "../errors.js";
import { findHazards, type VmHazards } from "./hazards.js";
import { discoverMemory } from "./layout.js";
import { isAlive } from "./process.js";
import { QmpClient } from "./qmp.js";
import type { MemoryBacking, VmEndpoint } from "./types.js";

export class VmmInspector {
  readonly #known = new Map<string, Promise<MemoryBacking>>();

  /** Whether the process that the endpoint names still lives. */
  isAlive(endpoint: VmEndpoint): boolean {
    return isAlive(endpoint);
  }

  /**
   * Where guest RAM lies and whether it can be exchanged. Opens the QMP socket for the first look only; looks that
   * overlap share one connection, because QEMU serves one client per socket.
   * @throws MWARP_E_VM_UNREACHABLE, MWARP_E_TIMEOUT, MWARP_E_CANCELLED
   */
  async backing(endpoint: VmEndpoint, signal?: AbortSignal): Promise<MemoryBacking> {
    if (!isAlive(endpoint))
      throw new MwarpError("MWARP_E_VM_UNREACHABLE", `${endpoint.name}: the VMM process has ended`);
    const key = `${endpoint.pid}:${endpoint.startTime}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const look = lookAt(endpoint, signal);
    this.#known.set(key, look);
    look.catch(() => this.#known.delete(key));
    return look;
  }

  /**
   * What forbids to touch the VM's memory now.
   * @throws MWARP_E_VM_UNREACHABLE, also while a migration of this or another daemon has the QMP socket; MWARP_E_TIMEOUT,
   * MWARP_E_CANCELLED
   */
  async hazards(endpoint: VmEndpoint, signal: AbortSignal): Promise<VmHazards> {
    using qmp = await QmpClient.open(endpoint.qmpSocket, { signal });
    return await findHazards(qmp, { signal });
  }
}

async function lookAt(endpoint: VmEndpoint, signal: AbortSignal | undefined): Promise<MemoryBacking> {
  const options = signal === undefined ? {} : { signal };
  using qmp = await QmpClient.open(endpoint.qmpSocket, options);
  return await discoverMemory(endpoint.pid, qmp, options);
}

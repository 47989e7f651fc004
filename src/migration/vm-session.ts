/**
 * One VM, opened for one stun: QMP, guest memory, what backs it, the preloaded library. Opened before the freeze, so that
 * nothing connects or looks for anything while the container stands still.
 */
import * as z from "zod/mini";
import { MwarpError } from "../errors.js";
import type { TaskRoot } from "../protocol/agent.js";
import type { GuestInfo } from "../protocol/guest-info.js";
import { BackingReader } from "../vm/backing.js";
import { pagingLevels } from "../vm/facts.js";
import { changeHazards, findHazards } from "../vm/hazards.js";
import { GuestMemory } from "../vm/memory.js";
import { QmpClient } from "../vm/qmp.js";
import type { MemoryLayout, VmEndpoint } from "../vm/types.js";
import { VmmLibrary } from "../vm/vmm-library.js";
import type { GuestView, PagesOf, PageTableLevels, SourceView } from "../warp/physical-memory.js";

const StatusSchema = z.object({ status: z.string() });

/** Limit for letting a VM go on, ms. */
const CONTINUE_TIMEOUT_MS = 10_000;

export class VmSession {
  readonly endpoint: VmEndpoint;
  readonly layout: MemoryLayout;
  readonly memory: GuestMemory;
  readonly backing: BackingReader;
  readonly library: VmmLibrary | null;
  readonly #qmp: QmpClient;
  readonly #levels: PageTableLevels;
  #stopAsked = false;

  private constructor(
    endpoint: VmEndpoint,
    layout: MemoryLayout,
    qmp: QmpClient,
    levels: PageTableLevels,
    library: VmmLibrary | null,
  ) {
    this.endpoint = endpoint;
    this.layout = layout;
    this.memory = new GuestMemory(endpoint.pid, layout);
    this.backing = new BackingReader(endpoint.pid, layout);
    this.library = library;
    this.#qmp = qmp;
    this.#levels = levels;
  }

  /** @param useLibrary false when the plan will only copy: then no library is needed */
  static async open(
    endpoint: VmEndpoint,
    layout: MemoryLayout,
    useLibrary: boolean,
    signal: AbortSignal,
    onHazard: (message: string) => void = () => undefined,
  ): Promise<VmSession> {
    const qmp = await QmpClient.open(endpoint.qmpSocket, { signal });
    let library: VmmLibrary | null = null;
    try {
      const levels = await pagingLevels(qmp, { signal });
      const hazards = useLibrary ? (await findHazards(qmp, { signal })).remap : [];
      if (hazards.length > 0)
        onHazard(`${endpoint.name}: memory is copied, not remapped: ${hazards.join(", ")}`);
      if (useLibrary && hazards.length === 0 && endpoint.vmmSocket !== null) {
        library = await VmmLibrary.connect(endpoint.vmmSocket, { signal });
        for (const region of layout.regions) await library.region(region.hva, region.bytes, { signal });
      }
      return new VmSession(endpoint, layout, qmp, levels, library);
    } catch (error) {
      library?.close();
      qmp.close();
      throw error;
    }
  }

  /**
   * Stops all vCPUs; returns once they stand still. QEMU first drains its disks and has them written (vm_stop in its
   * system/cpus.c), which may take seconds where a guest writes much. One that takes longer than `timeoutMs` must be let go
   * again all the same: QEMU does one command after the other.
   * @throws MWARP_E_TIMEOUT; MWARP_E_VM_UNREACHABLE when it does not run in the first place
   */
  async pause(timeoutMs: number): Promise<void> {
    await this.#mustRun(timeoutMs);
    await this.keepPaused(timeoutMs);
  }

  /** For recovery: a VM that a cut-off stun may have left paused stands still from here on. @throws MWARP_E_TIMEOUT */
  async keepPaused(timeoutMs: number): Promise<void> {
    this.#stopAsked = true;
    await this.#qmp.execute("stop", {}, { timeoutMs });
  }

  /** Undoes `pause`, also one that failed; a VM that somebody else has paused stays so. */
  async continue(): Promise<void> {
    if (!this.#stopAsked) return;
    await this.#qmp.execute("cont", {}, { timeoutMs: CONTINUE_TIMEOUT_MS });
    this.#stopAsked = false;
  }

  /** For the stun: nothing may have begun since preflight that a change of memory would escape. @throws MWARP_E_UNSUPPORTED */
  async mustBeChangeable(timeoutMs: number): Promise<void> {
    const [hazard] = await changeHazards(this.#qmp, { timeoutMs });
    if (hazard !== undefined)
      throw new MwarpError("MWARP_E_UNSUPPORTED", `${this.endpoint.name}: ${hazard} has begun`, {
        hint: "Wait until it has ended, then try again.",
      });
  }

  async #mustRun(timeoutMs: number): Promise<void> {
    const { status } = z.parse(StatusSchema, await this.#qmp.execute("query-status", {}, { timeoutMs }));
    if (status === "running") return;
    throw new MwarpError(
      "MWARP_E_VM_UNREACHABLE",
      `${this.endpoint.name} was paused by somebody else (${status})`,
      {
        hint: "Let it go on (QMP cont, virsh resume), then try again.",
      },
    );
  }

  view(roots: readonly TaskRoot[], info: GuestInfo): GuestView {
    const { memory, layout } = this;
    const { kernelRootGpa, directMapBase, taskStruct } = info;
    return { memory, layout, levels: this.#levels, roots, kernelRootGpa, directMapBase, taskStruct };
  }

  sourceView(roots: readonly TaskRoot[], info: GuestInfo, pagesOf: PagesOf): SourceView {
    return { ...this.view(roots, info), structPage: info.structPage, pagesOf };
  }

  close(): void {
    this.library?.close();
    this.memory.close();
    this.#qmp.close();
  }
}

/**
 * Preflight: every reason not to start, at once, and nothing changed anywhere.
 *
 * Names first; then both VMs, their guests and the container are asked side by side, each for as much as can be asked:
 * what cannot be learned because of one reason does not hide the others.
 */
import { errorTable, MwarpError, toMwarpError } from "../errors.js";
import type { AgentResult } from "../protocol/agent.js";
import type { ContainerState } from "../protocol/container.js";
import type { GuestInfo } from "../protocol/guest-info.js";
import type { MigrationRequest } from "../protocol/migration.js";
import type { VmHazards } from "../vm/hazards.js";
import type { MemoryBacking, MemoryLayout } from "../vm/types.js";
import type { OpenMigration } from "./journals.js";
import { chooseTools } from "./methods/common.js";
import type { AgentCaller, MigrationVm, MigrationWorld } from "./ports.js";
import {
  backingReasons,
  cpuReasons,
  guestReasons,
  hazardReasons,
  memoryReasons,
  networkReasons,
  type Reason,
  resourceReasons,
  runtimeReasons,
  stockReasons,
  unsettledReasons,
} from "./reasons.js";
import { volumeReasons } from "./volumes.js";

/** Time limits for a guest's answers, ms. */
const INFO_MS = 10_000;
const INSPECT_MS = 30_000;

/** Everything a migration knows once preflight has passed. */
export interface Checked {
  readonly container: ContainerState;
  readonly source: MigrationVm;
  readonly destination: MigrationVm;
  readonly sourceAgent: AgentCaller;
  readonly destinationAgent: AgentCaller;
  readonly sourceInfo: GuestInfo;
  readonly destinationInfo: GuestInfo;
  readonly usage: AgentResult<"source.inspect">;
  /** Archive of the container's root file system on the host. */
  readonly rootfsFile: string;
  /** Why memory will be copied and not remapped, where that is so: "VM: name of a device". */
  readonly copiedBecause: readonly string[];
  /** Where both guests' RAM lies; null for methods that do not touch it. */
  readonly layouts: { readonly source: MemoryLayout; readonly destination: MemoryLayout } | null;
}

/** Thrown by preflight: `reasons` holds all of them, the first one's code decides the exit status. */
export class Refusal extends MwarpError {
  readonly reasons: readonly Reason[];
  /** VM of the container; null when it was not found. */
  readonly from: string | null;

  constructor(reasons: readonly [Reason, ...Reason[]], from: string | null) {
    super(reasons[0].code, reasons.map((reason) => reason.message).join("; "), {
      hint: [...new Set(reasons.map(({ code, hint }) => hint ?? errorTable[code].remedy))].join(" "),
      phase: "preflight",
    });
    this.reasons = reasons;
    this.from = from;
  }
}

interface Names {
  /** VM of the container; null when it was not found. */
  readonly from: string | null;
  readonly container: ContainerState | null;
  readonly source: MigrationVm | null;
  readonly destination: MigrationVm | null;
}

/** What could be learned of one side; null for what could not. */
interface Side {
  readonly agent: AgentCaller | null;
  readonly info: GuestInfo | null;
  /** Also null where the method does not touch memory, as are the hazards. */
  readonly backing: MemoryBacking | null;
  readonly hazards: VmHazards | null;
}

const NO_SIDE: Side = { agent: null, info: null, backing: null, hazards: null };

/**
 * Finds the container and checks all that can be asked before the freeze.
 *
 * @param unsettled migrations that are not at their end and run no more
 * @throws Refusal with every reason found
 */
export async function preflight(
  world: MigrationWorld,
  request: MigrationRequest,
  unsettled: readonly OpenMigration[],
  signal: AbortSignal,
): Promise<Checked> {
  const reasons: Reason[] = [];
  const { from, container, source, destination } = await findNames(world, request, signal, reasons);
  const [ofSource, ofDestination] = [new Questions(request, signal), new Questions(request, signal)];
  const [[here, usage], there] = await Promise.all([
    source === null ? ([NO_SIDE, null] as const) : ofSource.source(source, container),
    destination === null ? NO_SIDE : ofDestination.side(destination),
  ]);
  reasons.push(...ofSource.failures, ...ofDestination.failures);
  const runtime = container?.spec.runtime ?? "runc";
  if (source !== null && here.info !== null)
    reasons.push(...guestReasons(source.endpoint.name, here.info, "dump", runtime));
  if (there.info !== null) reasons.push(...guestReasons(request.to, there.info, "restore", runtime));
  reasons.push(...runtimeReasons(request, runtime));
  if (here.info !== null && there.info !== null) reasons.push(...cpuReasons(here.info, there.info));
  for (const [vm, { backing, hazards }] of [
    [source, here],
    [destination, there],
  ] as const) {
    if (vm === null) continue;
    reasons.push(...unsettledReasons(request, vm.endpoint, unsettled));
    reasons.push(...backingReasons(request, vm.endpoint, backing));
    if (hazards !== null) reasons.push(...hazardReasons(request, vm.endpoint.name, hazards));
  }
  if (usage !== null) {
    reasons.push(...resourceReasons(usage.unsupported));
    if (there.info !== null)
      reasons.push(...memoryReasons(request, usage, there.info), ...networkReasons(usage, there.info));
    if (source !== null && here.agent !== null && there.agent !== null) {
      const from = { vm: source.endpoint.name, agent: here.agent };
      const to = { vm: request.to, agent: there.agent };
      reasons.push(...(await volumeReasons(usage.spec, from, to, signal)));
    }
    if (here.info !== null && there.info !== null)
      reasons.push(...stockReasons(chooseTools(request.method, here.info, there.info), usage.needsLibrary));
  }
  const [first, ...rest] = reasons;
  if (first !== undefined) throw new Refusal([first, ...rest], from);
  if (source === null || destination === null || container === null || usage === null)
    throw new MwarpError("MWARP_E_INTERNAL", "preflight found neither a reason nor the container");
  const [sourceAgent, destinationAgent] = [known(here.agent), known(there.agent)];
  return {
    layouts: layoutsOf(here.backing, there.backing),
    copiedBecause: [
      ...(here.hazards?.remap ?? []).map((name) => `${source.endpoint.name}: ${name}`),
      ...(there.hazards?.remap ?? []).map((name) => `${destination.endpoint.name}: ${name}`),
    ],
    container,
    source,
    destination,
    sourceAgent,
    destinationAgent,
    sourceInfo: known(here.info),
    destinationInfo: known(there.info),
    usage,
    rootfsFile: world.rootfsFile(usage.spec.rootfs),
  };
}

/** What a question without an answer has left a reason for. */
function known<T>(answer: T | null): T {
  if (answer === null) throw new MwarpError("MWARP_E_INTERNAL", "preflight lost a reason");
  return answer;
}

function layoutsOf(source: MemoryBacking | null, destination: MemoryBacking | null): Checked["layouts"] {
  if (source?.kind !== "shared-memfd" || destination?.kind !== "shared-memfd") return null;
  return { source: source.layout, destination: destination.layout };
}

/** Questions to one side. What fails is a reason; only the end of the whole migration is an exception. */
class Questions {
  readonly failures: Reason[] = [];
  readonly #request: MigrationRequest;
  readonly #signal: AbortSignal;

  constructor(request: MigrationRequest, signal: AbortSignal) {
    this.#request = request;
    this.#signal = signal;
  }

  async side(vm: MigrationVm): Promise<Side> {
    const [guest, memory] = await Promise.all([this.#guest(vm), this.#memory(vm)]);
    return { ...guest, ...memory };
  }

  async #guest(vm: MigrationVm): Promise<Pick<Side, "agent" | "info">> {
    const { name } = vm.endpoint;
    const signal = this.#signal;
    const agent = await this.#ask(name, vm.agent(signal));
    const info =
      agent === null ? null : await this.#ask(name, agent.call("info", {}, { signal, timeoutMs: INFO_MS }));
    return { agent, info };
  }

  /** One after the other: QEMU serves one client of a QMP socket at a time. */
  async #memory(vm: MigrationVm): Promise<Pick<Side, "backing" | "hazards">> {
    if (this.#request.method !== "warp") return { backing: null, hazards: null };
    const { name } = vm.endpoint;
    const backing = await this.#ask(name, vm.memoryBacking(this.#signal));
    return { backing, hazards: await this.#ask(name, vm.hazards(this.#signal)) };
  }

  /** The side that has the container, and what that uses; null when it does not run. */
  async source(
    vm: MigrationVm,
    container: ContainerState | null,
  ): Promise<readonly [Side, Checked["usage"] | null]> {
    const side = await this.side(vm);
    if (side.agent === null || container?.status !== "running" || container.held !== null)
      return [side, null];
    const { name } = container.spec;
    const options = { signal: this.#signal, timeoutMs: INSPECT_MS };
    return [side, await this.#ask(vm.endpoint.name, side.agent.call("source.inspect", { name }, options))];
  }

  async #ask<T>(vm: string, answer: Promise<T>): Promise<T | null> {
    try {
      return await answer;
    } catch (cause) {
      this.#signal.throwIfAborted();
      const { code, message, hint, details } = toMwarpError(cause);
      const text = message.includes(vm) ? message : `${vm}: ${message}`;
      this.failures.push({ code, message: text, hint, details });
      return null;
    }
  }
}

/** Who is meant. What speaks against it goes to `reasons`. */
async function findNames(
  world: MigrationWorld,
  request: MigrationRequest,
  signal: AbortSignal,
  reasons: Reason[],
): Promise<Names> {
  const destination = world.vm(request.to);
  if (destination === undefined) {
    reasons.push({
      code: "MWARP_E_VM_UNKNOWN",
      message: `there is no VM ${request.to}; known: ${world.vmNames().join(", ") || "none"}`,
    });
  }
  const survey = await world.containers(signal);
  const named = survey.containers.filter(({ container }) => container.spec.name === request.container);
  const elsewhere = named.filter(({ vm }) => vm !== request.to);
  const found = elsewhere[0];
  if (named.length === 0) {
    const silent = survey.unreachable.map(({ vm, reason }) => `${vm} does not answer (${reason})`);
    reasons.unshift({
      code: silent.length === 0 ? "MWARP_E_CONTAINER_UNKNOWN" : "MWARP_E_AGENT_UNREACHABLE",
      message: [`there is no container ${request.container} on any VM that answers`, ...silent].join("; "),
    });
  } else if (found === undefined) {
    reasons.push({ code: "MWARP_E_SAME_VM", message: `${request.container} already runs on ${request.to}` });
  } else {
    if (named.length > elsewhere.length) {
      reasons.push({
        code: "MWARP_E_NAME_TAKEN",
        message: `${request.to} already has a container named ${request.container}`,
      });
    }
    if (elsewhere.length > 1) {
      const vms = elsewhere.map(({ vm }) => vm).join(" and ");
      reasons.push({
        code: "MWARP_E_NAME_TAKEN",
        message: `${vms} each have a container named ${request.container}`,
      });
    }
    if (found.container.held !== null) {
      reasons.push({
        code: "MWARP_E_BUSY",
        message: `${request.container} is held by migration ${found.container.held}`,
      });
    } else if (found.container.status === "restarting") {
      reasons.push({
        code: "MWARP_E_NOT_RUNNING",
        message: `${request.container} has ended with ${found.container.exitCode ?? "an error"}, and waits to be started again`,
        hint: "Migrate it once it runs. `mwarp start` starts it now.",
      });
    } else if (found.container.status !== "running") {
      reasons.push({
        code: "MWARP_E_NOT_RUNNING",
        message: `${request.container} is ${found.container.status}`,
      });
    }
  }
  return {
    from: found?.vm ?? null,
    container: found?.container ?? null,
    source: found === undefined ? null : (world.vm(found.vm) ?? null),
    destination: destination ?? null,
  };
}

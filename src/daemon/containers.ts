/** Containers on all VMs: list, find, exec, logs, remove. Making one is in run.ts. */
import { isMwarpError, MwarpError } from "../errors.js";
import type {
  ContainerList,
  ContainerListing,
  ContainerStopped,
  ExecEvent,
  ExecRequest,
  LogEvent,
} from "../protocol/api.js";
import { splitLines } from "../protocol/ndjson.js";
import type { StopRequest } from "../protocol/restart.js";
import { errorBody } from "./errors.js";
import { type ExecCall, NO_TIMEOUT_MS, streamExec } from "./exec.js";
import type { ContainerLocks } from "./locks.js";
import { readLogLines } from "./log-lines.js";
import type { DaemonPorts } from "./ports.js";
import { EventQueue } from "./queue.js";
import { pick } from "./resolve.js";

/** How long a container's end may take, ms: SIGTERM, ten seconds, SIGKILL, and clearing up. */
const REMOVE_TIMEOUT_MS = 30_000;
/** What is left of it is cleared first. */
const START_TIMEOUT_MS = 90_000;

type ContainerPorts = Pick<DaemonPorts, "vms" | "inspector" | "agents" | "limits">;

interface Look {
  readonly found: ContainerListing | undefined;
  /** Who says that it has it, and that no migration does. */
  readonly claims: readonly string[];
  readonly unreachable: ContainerList["unreachable"];
}

export class ContainerService {
  readonly #ports: ContainerPorts;
  readonly #locks: ContainerLocks;

  constructor(ports: ContainerPorts, locks: ContainerLocks) {
    this.#ports = ports;
    this.#locks = locks;
  }

  /** All agents are asked at once; a VM that does not answer in time is named, and fails nothing. */
  async list(outer: AbortSignal, timeoutMs = this.#ports.limits.listing): Promise<ContainerList> {
    const signal = AbortSignal.any([outer, AbortSignal.timeout(timeoutMs)]);
    const result: ContainerList = { containers: [], unreachable: [] };
    const answers = await Promise.all(
      this.#ports.vms.list().map(async (endpoint) => {
        const vm = endpoint.name;
        try {
          if (!this.#ports.inspector.isAlive(endpoint))
            throw new MwarpError("MWARP_E_VM_UNREACHABLE", `${vm}: the VMM process has ended`);
          const agent = await this.#ports.agents.agent(vm, signal);
          const options = { signal, timeoutMs };
          return { vm, containers: (await agent.call("container.list", {}, options)).containers };
        } catch (error) {
          return { vm, error: errorBody(silenceOf(vm, error, signal)) };
        }
      }),
    );
    for (const answer of answers) {
      if (answer.error !== undefined) result.unreachable.push(answer);
      else for (const container of answer.containers) result.containers.push({ vm: answer.vm, container });
    }
    outer.throwIfAborted();
    return result;
  }

  /**
   * The container of that name or unique id prefix. While a migration runs, both VMs may list it: the side that has a
   * process goes first. Two VMs that claim it while no migration does cannot both be right, and one may not be honest: neither
   * is asked for anything.
   * @throws MWARP_E_NAME_TAKEN naming both; MWARP_E_CONTAINER_UNKNOWN, or MWARP_E_AGENT_UNREACHABLE when a VM that might have
   * it did not answer
   */
  async find(wanted: string, signal: AbortSignal): Promise<ContainerListing> {
    let { found, claims, unreachable } = await this.#look(wanted, signal);
    // One may have answered before the container moved, the other after.
    if (claims.length > 1) ({ found, claims, unreachable } = await this.#look(wanted, signal));
    if (claims.length > 1)
      throw new MwarpError("MWARP_E_NAME_TAKEN", `${claims.join(" and ")} each claim container "${wanted}"`, {
        hint: "Find out which of them is right. An id says which is meant, unless both claim that, too.",
      });
    if (found !== undefined) return found;
    const silent = unreachable.filter((item) => item.error.code !== "MWARP_E_VM_UNREACHABLE");
    if (silent.length === 0)
      throw new MwarpError("MWARP_E_CONTAINER_UNKNOWN", `there is no container "${wanted}"`);
    throw new MwarpError(
      "MWARP_E_AGENT_UNREACHABLE",
      `no container "${wanted}" on the VMs that answer; ${silent.map((item) => item.vm).join(", ")} did not`,
      { details: silent.map((item) => `${item.vm}: ${item.error.message}`) },
    );
  }

  async #look(wanted: string, signal: AbortSignal): Promise<Look> {
    const { containers, unreachable } = await this.list(signal, this.#ports.limits.find);
    const byProcess = [...containers].sort((a, b) => rank(a) - rank(b));
    const found = pick(byProcess, wanted, {
      name: (item) => item.container.spec.name,
      id: (item) => item.container.spec.id,
    });
    return { found, claims: found === undefined ? [] : claimsOf(containers, found, wanted), unreachable };
  }

  async exec(wanted: string, request: ExecRequest, call: ExecCall): Promise<AsyncGenerator<ExecEvent, void>> {
    const { vm, container } = await this.find(wanted, call.signal);
    const name = container.spec.name;
    if (!["running", "paused"].includes(container.status))
      throw new MwarpError("MWARP_E_NOT_RUNNING", `container "${name}" is ${container.status}`, {
        hint: `Look at what it said: mwarp logs ${name}`,
      });
    const agent = await this.#ports.agents.agent(vm, call.signal);
    return streamExec((options) => agent.call("container.exec", { name, ...request }, options), call);
  }

  async logs(
    wanted: string,
    options: { follow: boolean; tail: number | null },
    signal: AbortSignal,
  ): Promise<AsyncGenerator<LogEvent, void>> {
    const { vm, container } = await this.find(wanted, signal);
    const agent = await this.#ports.agents.agent(vm, signal);
    const stop = new AbortController();
    const bytes = new EventQueue<Uint8Array>();
    agent
      .call(
        "container.logs",
        { name: container.spec.name, ...options },
        {
          signal: AbortSignal.any([signal, stop.signal]),
          timeoutMs: NO_TIMEOUT_MS,
          onChunk: (data) => bytes.push(Buffer.from(data)),
        },
      )
      .then(
        () => bytes.end(),
        (error: unknown) => bytes.fail(error),
      );
    return logEvents(bytes, stop);
  }

  /** Ends it; its policy does not start it again. @throws MWARP_E_BUSY while a migration has it; MWARP_E_USAGE for no signal */
  async stop(wanted: string, request: StopRequest, signal: AbortSignal): Promise<ContainerStopped> {
    const { vm, container } = await this.find(wanted, signal);
    const { name } = container.spec;
    using _lock = this.#locks.take(name, { what: "stop" });
    const agent = await this.#ports.agents.agent(vm, signal);
    const timeoutMs = request.graceMs + REMOVE_TIMEOUT_MS;
    return { name, ...(await agent.call("container.stop", { name, ...request }, { signal, timeoutMs })) };
  }

  /** Starts one that has ended, with the files that it has. @throws MWARP_E_BUSY while a migration has it; MWARP_E_RUNTIME */
  async start(wanted: string, signal: AbortSignal): Promise<ContainerListing> {
    const { vm, container } = await this.find(wanted, signal);
    const { name } = container.spec;
    using _lock = this.#locks.take(name, { what: "start" });
    const agent = await this.#ports.agents.agent(vm, signal);
    await agent.call("container.start", { name }, { signal, timeoutMs: START_TIMEOUT_MS });
    return this.find(wanted, signal);
  }

  /** @throws MWARP_E_BUSY, MWARP_E_RUNTIME when it runs and `force` is not set */
  async remove(
    wanted: string,
    options: { force: boolean; volumes: boolean },
    signal: AbortSignal,
  ): Promise<string> {
    const { vm, container } = await this.find(wanted, signal);
    const name = container.spec.name;
    using _lock = this.#locks.take(name, { what: "rm" });
    if (!options.force && ["running", "paused", "restarting"].includes(container.status))
      throw new MwarpError("MWARP_E_BUSY", `container "${name}" is ${container.status} on ${vm}`, {
        hint: `To end it and remove it: mwarp rm -f ${name}`,
      });
    const agent = await this.#ports.agents.agent(vm, signal);
    await agent.call("container.remove", { name, ...options }, { signal, timeoutMs: REMOVE_TIMEOUT_MS });
    return name;
  }
}

/** The time limit of a listing is no cancellation that anybody asked for: the VM did not answer. */
export function silenceOf(vm: string, error: unknown, limit: AbortSignal): unknown {
  if (!limit.aborted || !isMwarpError(error, "MWARP_E_CANCELLED")) return error;
  return new MwarpError("MWARP_E_AGENT_UNREACHABLE", `${vm}: the agent did not answer in time`);
}

/** Two VMs may list one container while a migration has it, which then holds it on one of them at least. */
function claimsOf(
  containers: readonly ContainerListing[],
  { container }: ContainerListing,
  wanted: string,
): string[] {
  const { name, id } = container.spec;
  const claims = containers.filter(
    ({ container: { spec, held } }) =>
      held === null && (name === wanted ? spec.name === name : spec.id === id),
  );
  return claims.map(({ vm, container }) => `${vm} (id ${container.spec.id})`);
}

const rank = ({ container }: ContainerListing): number =>
  ["running", "paused", "restarting", "created", "stopped"].indexOf(container.status);

async function* logEvents(
  bytes: AsyncIterable<Uint8Array>,
  stop: AbortController,
): AsyncGenerator<LogEvent, void> {
  try {
    for await (const entry of readLogLines(splitLines(bytes))) yield { event: "line", entry };
    yield { event: "end" };
  } finally {
    stop.abort();
  }
}

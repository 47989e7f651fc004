/** Attached to a container, wherever it is: each move is followed, and nothing said or typed is lost or comes twice. */
import { setTimeout as sleep } from "node:timers/promises";
import { isMwarpError, MwarpError } from "../errors.js";
import type { AttachEvent, AttachRequest, ContainerListing } from "../protocol/api.js";
import { checked } from "../protocol/checked.js";
import { type AttachNote, AttachNoteSchema } from "../protocol/terminal.js";
import { AttachedLog } from "./attached-log.js";
import type { ContainerService } from "./containers.js";
import { NO_TIMEOUT_MS } from "./exec.js";
import type { DaemonPorts } from "./ports.js";
import { EventQueue } from "./queue.js";
import { Typed } from "./typed.js";

/** How long a container may be nobody's: its migration, or the recovery of one whose daemon or agent has died. */
const FOLLOW_MS = 300_000;
const LOOK_MS = 100;

type AttachPorts = Pick<DaemonPorts, "agents">;

export interface AttachCall {
  /** Frames of protocol/terminal.ts, as bytes. */
  readonly frames: AsyncIterable<Uint8Array>;
  readonly signal: AbortSignal;
}

/** Of one who is attached. */
interface Attachment {
  readonly typed: Typed;
  readonly queue: EventQueue<AttachEvent>;
  readonly signal: AbortSignal;
  /** Byte of the log to go on at; null for what comes from now on. */
  position: number | null;
}

export class AttachService {
  readonly #ports: AttachPorts;
  readonly #containers: ContainerService;

  constructor(ports: AttachPorts, containers: ContainerService) {
    this.#ports = ports;
    this.#containers = containers;
  }

  /**
   * What the container says from now on, or from its start; the last event is its exit code. Ending the iteration lets go of it.
   * @throws MWARP_E_CONTAINER_UNKNOWN, also when it was removed; the errors of `find`
   */
  async *attach(
    wanted: string,
    { from }: AttachRequest,
    { frames, signal }: AttachCall,
  ): AsyncGenerator<AttachEvent, void> {
    const stop = new AbortController();
    const attachment: Attachment = {
      typed: new Typed(),
      queue: new EventQueue<AttachEvent>(),
      signal: AbortSignal.any([signal, stop.signal]),
      position: from === "start" ? 0 : null,
    };
    const { typed, queue } = attachment;
    typed.read(frames).catch((error: unknown) => queue.fail(error));
    queue.endWith(this.#follow(wanted, attachment), (exitCode) => ({ event: "exit", exitCode }));
    try {
      yield* queue;
    } finally {
      stop.abort();
      typed.end();
    }
  }

  /** Its exit code. */
  async #follow(wanted: string, attachment: Attachment): Promise<number> {
    const { container } = await this.#containers.find(wanted, attachment.signal);
    for (;;) {
      const exitCode = await this.#once(
        await this.#settled(container.spec.id, attachment.signal),
        attachment,
      );
      if (exitCode !== null) return exitCode;
    }
  }

  /** Where it is once no migration has it. A VM that does not answer for a moment may be the one. */
  async #settled(id: string, signal: AbortSignal): Promise<ContainerListing> {
    const deadline = performance.now() + FOLLOW_MS;
    for (;;) {
      try {
        const listing = await this.#containers.find(id, signal);
        if (listing.container.held === null) return listing;
        if (performance.now() > deadline)
          throw new MwarpError("MWARP_E_BUSY", `migration ${listing.container.held} still has the container`);
      } catch (error) {
        if (!isMwarpError(error, "MWARP_E_AGENT_UNREACHABLE") || performance.now() > deadline) throw error;
      }
      await sleep(LOOK_MS, undefined, { signal });
    }
  }

  /** Null when it has left this VM, or a migration had it just then. */
  async #once({ vm, container }: ContainerListing, attachment: Attachment): Promise<number | null> {
    const { typed, queue, signal } = attachment;
    const agent = await this.#ports.agents.agent(vm, signal);
    const ends = new AbortController();
    let said = new AttachedLog(attachment.position ?? 0);
    const noted = (what: AttachNote): void => {
      if (what.note === "taken") typed.taken(what.bytes);
      else {
        said = new AttachedLog(what.position);
        queue.add({ event: "attached", vm, terminal: what.terminal });
      }
    };
    try {
      const { exitCode } = await agent.call(
        "container.attach",
        { name: container.spec.name, from: attachment.position },
        {
          signal,
          timeoutMs: NO_TIMEOUT_MS,
          up: typed.frames(AbortSignal.any([signal, ends.signal])),
          onChunk: async (data, { fd }) => {
            if (fd === 0) return noted(noteOf(data));
            for (const { fd, bytes } of said.push(data))
              await queue.push({ event: "data", fd, base64: bytes.toString("base64") });
            attachment.position = said.position;
          },
        },
      );
      attachment.position = said.position;
      return exitCode;
    } catch (error) {
      // It moves, or has moved since it was looked for, or its VM's agent is being started anew.
      const passing = (
        ["MWARP_E_BUSY", "MWARP_E_CONTAINER_UNKNOWN", "MWARP_E_AGENT_UNREACHABLE"] as const
      ).some((code) => isMwarpError(error, code));
      if (!passing) throw error;
      await sleep(LOOK_MS, undefined, { signal });
      return null;
    } finally {
      ends.abort();
    }
  }
}

/** @throws MWARP_E_PROTOCOL for what is none */
function noteOf(data: Uint8Array): AttachNote {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(data).toString("utf8"));
  } catch (cause) {
    throw new MwarpError("MWARP_E_PROTOCOL", "an agent's note on a container is no JSON", { cause });
  }
  const note = checked(AttachNoteSchema, json);
  if ("problem" in note)
    throw new MwarpError("MWARP_E_PROTOCOL", `an agent's note on a container: ${note.problem}`);
  return note.data;
}

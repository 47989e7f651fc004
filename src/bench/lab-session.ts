/** Measures in one lab, on one container at a time. */
import { MwarpError, toMwarpError } from "../errors.js";
import { labStatus } from "../lab/index.js";
import { ApplicationSession } from "./applications/index.js";
import { BenchContainer } from "./container.js";
import { measureFloor } from "./floor.js";
import type { BenchLab } from "./lab.js";
import { containerKey } from "./matrix.js";
import { measureMigration, otherVm } from "./measure.js";
import { migrate } from "./migrate.js";
import { measureNetwork } from "./network.js";
import type { Task } from "./plan.js";
import type {
  Application,
  ApplicationRecord,
  BenchRecord,
  Cell,
  FloorRecord,
  MigrationRecord,
  NetworkRecord,
  StallRecord,
} from "./records.js";
import { measureStalls } from "./stalls.js";
import type { Bench } from "./task-loop.js";

const ANSWER_MS = 10_000;
const warmUpCell: Omit<Cell, "backing"> = {
  pages: "thp",
  size: 16 * 1024 ** 2,
  processes: 1,
  write_share: 0,
  method: "warp",
  backend: "auto",
  strategy: "auto",
};

type ApplicationTask = Extract<Task, { kind: "application" }>;

export class LabSession implements Bench {
  readonly #lab: BenchLab;
  readonly #signal: AbortSignal;
  readonly #note: (text: string) => void;
  /** At most one of the two is there. */
  #container: BenchContainer | null = null;
  #program: { readonly application: Application; readonly session: ApplicationSession } | null = null;

  constructor(lab: BenchLab, signal: AbortSignal, note: (text: string) => void) {
    this.#lab = lab;
    this.#signal = signal;
    this.#note = note;
  }

  /**
   * Moves a small container by each method that is to be measured, and records nothing: the first move brings the root file system
   * into the other VM, and the programs of a method are read from disk once.
   */
  async warmUp(tasks: readonly Task[]): Promise<void> {
    const methods = new Set(
      tasks.flatMap((task) => {
        if (task.kind === "migration" || task.kind === "stalls") return [task.cell.method];
        return task.kind === "application" ? [task.method] : [];
      }),
    );
    this.#note("warming up");
    try {
      const container = await this.#containerFor({ ...warmUpCell, backing: this.#lab.backing }, 0);
      for (const method of methods) {
        const move = {
          to: otherVm(this.#lab.status, container.vm),
          method,
          backend: "auto",
          strategy: "auto",
        } as const;
        const { error } = await migrate(
          this.#lab.daemon,
          { ...move, container: container.name },
          this.#signal,
        );
        if (error !== null) throw new MwarpError(error.code, `${method}: ${error.message}`);
        container.vm = move.to;
      }
    } catch (error) {
      if (this.#signal.aborted) throw error;
      // It fails again when it is measured, and is written down then.
      this.#note(`warming up failed: ${toMwarpError(error).message}`);
    } finally {
      await this.#drop();
    }
  }

  async measure(task: Task): Promise<[BenchRecord]> {
    switch (task.kind) {
      case "network":
        return [await this.#network(task.round)];
      case "floor":
        return [await this.#floor(task.round)];
      case "migration":
        return [await this.#migration(task.cell, task.round)];
      case "stalls":
        return [await this.#stalls(task.cell, task.round)];
      case "application":
        return [await this.#application(task)];
      default:
        throw new MwarpError("MWARP_E_INTERNAL", `${task.kind} is not measured in a lab`);
    }
  }

  async recover(): Promise<boolean> {
    try {
      await this.#drop();
      const { vms } = await this.#lab.daemon.vms(AbortSignal.timeout(ANSWER_MS));
      return labStatus().state === "up" && vms.every(({ state }) => state === "ready");
    } catch (error) {
      this.#note(`the lab is broken: ${toMwarpError(error).message}`);
      return false;
    }
  }

  /** The direction changes from round to round. */
  async #network(round: number): Promise<NetworkRecord> {
    await this.#drop();
    const { daemon, status, backing } = this.#lab;
    const from = this.#firstVm(round);
    const to = otherVm(status, from);
    const address = status.vms.find(({ endpoint }) => endpoint.name === to)?.endpoint.address;
    if (address === null || address === undefined)
      throw new MwarpError("MWARP_E_LAB", `${to} has no address on the bridge`);
    return measureNetwork({ daemon, from, to, address, backing, round, signal: this.#signal });
  }

  /** In one VM after the other, and with no container beside it. */
  async #floor(round: number): Promise<FloorRecord> {
    await this.#drop();
    const { daemon, backing } = this.#lab;
    return measureFloor({ daemon, vm: this.#firstVm(round), backing, round, signal: this.#signal });
  }

  async #migration(cell: Cell, round: number): Promise<MigrationRecord> {
    const { daemon, status } = this.#lab;
    const container = await this.#containerFor(cell, round);
    return measureMigration({ daemon, lab: status, signal: this.#signal }, container, cell, round);
  }

  async #stalls(cell: Cell, round: number): Promise<StallRecord> {
    const { daemon, status } = this.#lab;
    const container = await this.#containerFor(cell, round);
    return measureStalls({ daemon, lab: status, signal: this.#signal }, container, cell, round);
  }

  async #application({ application, method, round }: ApplicationTask): Promise<ApplicationRecord> {
    const { daemon, status, backing } = this.#lab;
    if (this.#program?.application !== application) {
      await this.#drop();
      const options = { application, backing, daemon, lab: status, signal: this.#signal };
      const session = await ApplicationSession.start({ ...options, onProgress: (what) => this.#note(what) });
      this.#program = { application, session };
    }
    return this.#program.session.measure(method, round);
  }

  async #containerFor(cell: Cell, round: number): Promise<BenchContainer> {
    if (this.#container?.key === containerKey(cell)) return this.#container;
    await this.#drop();
    this.#container = await BenchContainer.start(this.#lab, cell, this.#firstVm(round), this.#signal);
    return this.#container;
  }

  /** Where a container of this round starts. */
  #firstVm(round: number): string {
    const { vms } = this.#lab.status;
    return vms[round % vms.length].endpoint.name;
  }

  async #drop(): Promise<void> {
    const [container, program] = [this.#container, this.#program];
    this.#container = this.#program = null;
    await container?.remove(this.#lab.daemon);
    await program?.session[Symbol.asyncDispose]();
  }
}

/** The tasks of one lab, one after the other, on one container at a time. */
import { MwarpError, toMwarpError } from "../errors.js";
import { labStatus } from "../lab/index.js";
import { BenchContainer } from "./container.js";
import { failureRecord } from "./failure.js";
import type { BenchLab } from "./lab.js";
import { containerKey } from "./matrix.js";
import { measureMigration, otherVm } from "./measure.js";
import { measureNetwork } from "./network.js";
import { nameOfTask, type Task } from "./plan.js";
import type { BenchProgress } from "./progress.js";
import type { BenchRecord, Cell, MigrationRecord, NetworkRecord } from "./records.js";

export interface SessionOptions {
  /** Puts a record on disk. */
  readonly append: (record: BenchRecord) => void;
  readonly progress: BenchProgress;
  readonly signal: AbortSignal;
}

const ANSWER_MS = 10_000;

export class LabSession {
  readonly #lab: BenchLab;
  readonly #options: SessionOptions;
  #container: BenchContainer | null = null;

  constructor(lab: BenchLab, options: SessionOptions) {
    this.#lab = lab;
    this.#options = options;
  }

  /** Runs tasks until all are done or the lab is broken; gives those that are left. @throws MWARP_E_CANCELLED */
  async run(tasks: readonly Task[]): Promise<readonly Task[]> {
    const { append, progress, signal } = this.#options;
    for (const [index, task] of tasks.entries()) {
      signal.throwIfAborted();
      progress.start(task);
      try {
        const record = await this.#measure(task);
        append(record);
        progress.measured(task, record);
        if (record.kind === "migration" && !record.verified) await this.#drop();
      } catch (error) {
        if (signal.aborted) throw new MwarpError("MWARP_E_CANCELLED", "interrupted", { cause: error });
        append(failureRecord(nameOfTask(task), task.round, error));
        progress.failed(nameOfTask(task), toMwarpError(error).message, [task]);
        if (!(await this.#isSound())) return tasks.slice(index + 1);
      }
    }
    return [];
  }

  #measure(task: Task): Promise<MigrationRecord | NetworkRecord> {
    return task.kind === "network" ? this.#network(task.round) : this.#migration(task.cell, task.round);
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
    const { signal } = this.#options;
    return measureNetwork({ daemon, from, to, address, backing, round, signal });
  }

  async #migration(cell: Cell, round: number): Promise<MigrationRecord> {
    const { daemon, status } = this.#lab;
    const { signal } = this.#options;
    if (this.#container !== null && this.#container.key !== containerKey(cell)) await this.#drop();
    this.#container ??= await BenchContainer.start(this.#lab, cell, this.#firstVm(round), signal);
    return measureMigration({ daemon, lab: status, signal }, this.#container, cell, round);
  }

  /** Where a container of this round starts. */
  #firstVm(round: number): string {
    const { vms } = this.#lab.status;
    return vms[round % vms.length].endpoint.name;
  }

  async #drop(): Promise<void> {
    const container = this.#container;
    this.#container = null;
    await container?.remove(this.#lab.daemon);
  }

  /** After a failure: whether the next task finds a lab that works, and no container that may be half moved. */
  async #isSound(): Promise<boolean> {
    try {
      await this.#drop();
      const { vms } = await this.#lab.daemon.vms(AbortSignal.timeout(ANSWER_MS));
      return labStatus().state === "up" && vms.every(({ state }) => state === "ready");
    } catch (error) {
      this.#options.progress.note(`the lab is broken: ${toMwarpError(error).message}`);
      return false;
    }
  }
}

/** A run of the benchmark: lab by lab, task by task; what fails is written down and the run goes on. */
import { MwarpError, toMwarpError } from "../errors.js";
import { availableBytes } from "../lab/hugepages.js";
import { knownKvmVerdict } from "../lab/index.js";
import { withLock } from "../lock.js";
import { failureRecord } from "./failure.js";
import { HostSession } from "./host-session.js";
import {
  type BenchLab,
  clearPlace,
  type DaemonKeeper,
  GUEST_CPUS,
  moveTo,
  type Place,
  placeBeside,
  withLab,
} from "./lab.js";
import { LabSession } from "./lab-session.js";
import { thisCommit, thisMachine } from "./machine.js";
import { nameOfCell } from "./matrix.js";
import { fits, guestMemory, movedApplication } from "./memory.js";
import { doneTasks, type Group, schedule, type Task, taskKey } from "./plan.js";
import type { BenchProgress } from "./progress.js";
import { type Backing, type BenchRecord, type Plan, RECORD_VERSION, type RunRecord } from "./records.js";
import { type ReadResults, ResultsFile } from "./results-file.js";
import { type ResumableRun, requireSame } from "./resume.js";
import { type LoopOptions, runTasks } from "./task-loop.js";

/** Labs that one group of tasks may wear out before the rest of it is given up. */
const MOST_LABS = 5;

export interface BenchOptions {
  readonly plan: Plan;
  readonly seed: number;
  /** As it was typed. */
  readonly command: readonly string[];
  readonly file: string;
  /** The file's contents and first record when the run goes on with it. */
  readonly begun: { readonly results: ReadResults; readonly run: ResumableRun } | null;
  readonly build: string;
  readonly keeper: DaemonKeeper;
  readonly progress: BenchProgress;
  /** Ctrl-C: the measurement under way is rolled back and thrown away, the lab is taken down. */
  readonly signal: AbortSignal;
}

/**
 * Measures what is missing and returns every record of the file.
 * @throws MWARP_E_USAGE when the file was begun on another machine, by other code, or with another plan; what keeps the first lab
 * from coming up; MWARP_E_BUSY when another benchmark runs; MWARP_E_CANCELLED
 */
export async function runBench(options: BenchOptions): Promise<readonly BenchRecord[]> {
  const place = placeBeside();
  const lock = { waitMs: 0, busy: "another mwarp bench runs", signal: options.signal };
  return withLock("bench", place.runDir, lock, async () => {
    const [machine, commit] = await Promise.all([thisMachine(), thisCommit()]);
    const { build, begun } = options;
    if (begun !== null) requireSame(options.file, begun.run, { machine, commit, build });
    using _moved = moveTo(place);
    await clearPlace(place, options.keeper);
    using run = new Run(options, place, { machine, commit });
    try {
      await run.all();
    } finally {
      await clearPlace(place, options.keeper);
    }
    return run.records;
  });
}

class Run implements Disposable {
  readonly records: BenchRecord[];
  readonly #options: BenchOptions;
  readonly #place: Place;
  readonly #host: Pick<RunRecord, "machine" | "commit">;
  readonly #memoryBytes: number;
  #file: ResultsFile | null = null;

  constructor(options: BenchOptions, place: Place, host: Pick<RunRecord, "machine" | "commit">) {
    const { begun, plan } = options;
    this.#options = options;
    this.#place = place;
    this.#host = host;
    this.records = [...(begun?.results.records ?? [])];
    const moved = [...plan.cells, ...(plan.stalls ?? []), ...plan.applications.map(movedApplication)];
    this.#memoryBytes = begun?.run.guest.memory ?? guestMemory(moved, availableBytes());
    if (begun !== null) this.#file = ResultsFile.goOn(options.file, begun.results);
  }

  [Symbol.dispose](): void {
    this.#file?.[Symbol.dispose]();
  }

  async all(): Promise<void> {
    const { plan, seed, progress } = this.#options;
    const done = doneTasks(this.records);
    const fitting: Plan = {
      ...plan,
      cells: plan.cells.filter((cell) => fits(cell, this.#memoryBytes)),
      stalls: plan.stalls?.filter((cell) => fits(cell, this.#memoryBytes)),
      applications: plan.applications.filter((one) => fits(movedApplication(one), this.#memoryBytes)),
    };
    const all = schedule(fitting, seed);
    const groups = all
      .map((group) => ({ ...group, tasks: group.tasks.filter((task) => !done.has(taskKey(task))) }))
      .filter((group) => group.tasks.length > 0);
    const count = (list: readonly Group[]): number => list.reduce((sum, { tasks }) => sum + tasks.length, 0);
    progress.begin(
      groups.flatMap((group) => group.tasks),
      count(all) - count(groups),
    );
    for (const { backing, tasks } of groups) {
      if (backing === null) await this.#onHost(tasks);
      else await this.#inLabs(backing, tasks);
    }
  }

  async #onHost(tasks: readonly Task[]): Promise<void> {
    const { signal } = this.#options;
    if (this.#file === null) this.#begin(withoutLab());
    await runTasks(tasks, new HostSession(this.#place, signal), this.#loop());
  }

  /** In as many labs as that takes. */
  async #inLabs(backing: Backing, tasks: readonly Task[]): Promise<void> {
    const { signal, keeper, progress } = this.#options;
    let left: readonly Task[] = tasks;
    try {
      for (let labs = 0; left.length > 0; labs++) {
        if (labs === MOST_LABS) throw new MwarpError("MWARP_E_LAB", `${labs} labs broke one after the other`);
        progress.note(`starting a lab on ${backing}`);
        const memoryBytes = this.#memoryBytes;
        const onProgress = ({ message }: { message: string }): void => progress.note(message);
        const lab = { place: this.#place, backing, memoryBytes, keeper, signal, onProgress };
        left = await withLab(lab, async (up) => {
          this.#begin(await this.#surroundings(up));
          const session = new LabSession(up, signal, (text) => progress.note(text));
          await session.warmUp(left);
          return runTasks(left, session, this.#loop());
        });
      }
    } catch (error) {
      if (signal.aborted || this.#file === null) throw error;
      const what = `a lab on ${backing}, ${left.length} measurements`;
      this.#append(failureRecord(what, 0, error));
      progress.failed(what, toMwarpError(error).message, left);
    }
  }

  #loop(): LoopOptions {
    const { progress, signal } = this.#options;
    return { append: (...records) => this.#append(...records), progress, signal };
  }

  /** The file's first record, from the first lab; a later lab must be the same. */
  #begin(found: Surroundings): void {
    const first = this.records.find((record): record is RunRecord => record.kind === "run");
    if (first !== undefined) {
      const before = { accelerator: first.accelerator, guest: first.guest };
      requireSame(this.#options.file, before, found);
      return;
    }
    const { plan, seed, command, build, file } = this.#options;
    const started_at = new Date().toISOString();
    this.#file = ResultsFile.create(file);
    const id = started_at.replace(/\D/g, "").slice(0, 14);
    const about = { id, started_at, command: [...command], seed, build, plan };
    this.#append({ kind: "run", version: RECORD_VERSION, ...about, ...this.#host, ...found });
    for (const cell of [...plan.cells, ...(plan.stalls ?? [])].filter(
      (one) => !fits(one, this.#memoryBytes),
    )) {
      const error = new MwarpError(
        "MWARP_E_NO_MEMORY",
        "the host has not enough memory for VMs that hold it",
      );
      this.#append(failureRecord(nameOfCell(cell), 0, error));
    }
  }

  async #surroundings({ daemon, status }: BenchLab): Promise<Surroundings> {
    const agent = (await daemon.vms(this.#options.signal)).vms[0]?.agent;
    return {
      accelerator: status.accelerator?.kind === "kvm" ? "kvm" : "tcg",
      guest: {
        kernel: agent?.kernel ?? "unknown",
        criu: agent?.criu ?? "unknown",
        runc: agent?.runc ?? "unknown",
        memory: this.#memoryBytes,
        cpus: GUEST_CPUS,
      },
    };
  }

  #append(...records: readonly BenchRecord[]): void {
    this.#file?.append(...records);
    this.records.push(...records);
  }
}

type Surroundings = Pick<RunRecord, "accelerator" | "guest">;

/** Of a run that needs no VM. */
const withoutLab = (): Surroundings => ({
  accelerator: knownKvmVerdict()?.works === true ? "kvm" : "tcg",
  guest: { kernel: "none", criu: "none", runc: "none", memory: 0, cpus: 0 },
});

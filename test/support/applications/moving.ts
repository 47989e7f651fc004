/** An application in a container with a client that keeps it busy, what the client saw around each move, and the record of it. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import * as z from "zod/mini";
import { monotonicMs } from "../../../src/bench/applications/clock.js";
import { cutTimeline } from "../../../src/bench/applications/timeline.js";
import type { Sample } from "../../../src/bench/records.js";
import { ClientProcess } from "../../../src/lab/client-process.js";
import { insideNamespace } from "../../../src/lab/network.js";
import type { MigrationReport } from "../../../src/protocol/migration.js";
import { ContainerEntrySchema } from "../documents.js";
import type { TestLab } from "../lab.js";
import { projectRoot } from "../mwarp.js";
import { until } from "../wait.js";
import { Workload } from "../workload.js";

const BEFORE_MS = 2_000;
const AFTER_MS = 2_000;
const INTERVAL_MS = 250;
/** Between an answer and the next question, so that a dozen clients leave two processors something to move with. */
const PAUSE_MS = 20;
/** TCP waits up to two minutes between two tries (TCP_RTO_MAX). */
const ANSWERS_MS = 130_000;
const RUN_MS = 230_000;

const otherVm = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");

export interface Application {
  readonly name: string;
  readonly rootfs: string;
  readonly argv: readonly string[];
  readonly client: ContainerClient;
}

/** See application-client.mjs. */
interface ContainerClient {
  readonly protocol: "count" | "memcached" | "redis" | "http";
  readonly port: number;
  readonly connections: number;
}

/** What the client saw of one move; `samples` begin before the command and end after the first answers behind it. */
interface MoveRecord {
  readonly to: string;
  readonly time_ms: MigrationReport["time_ms"];
  readonly longest_wait_ms: number;
  /** Answers a second, before the command and after the end of the move. */
  readonly rate_before: number;
  readonly rate_after: number;
  readonly samples: readonly Sample[];
}

const SettledSchema = z.object({ answers: z.int(), faults: z.array(z.string()) });
const OperationsSchema = z.array(z.tuple([z.number(), z.number()]));
type Operations = z.infer<typeof OperationsSchema>;

export class MovingApplication {
  readonly moves: MoveRecord[] = [];
  answers = 0;
  readonly workload: Workload;
  readonly #options: ContainerClient;
  #client: ClientProcess<string> | null = null;
  #vm: string;

  private constructor(
    lab: TestLab,
    vm: string,
    { name, client }: Application,
    readonly ipv4: string,
  ) {
    this.workload = new Workload(lab, name);
    this.#options = client;
    this.#vm = vm;
  }

  get name(): string {
    return this.workload.name;
  }

  /**
   * Starts the container in `vm`. The root file system is brought into the other VM, too: it takes a minute where clients keep the
   * VMs busy.
   */
  static async start(lab: TestLab, vm: string, application: Application): Promise<MovingApplication> {
    const { name, rootfs, argv } = application;
    const seed = ["run", "--vm", otherVm(vm), "--name", `${name}-seed`, "--rootfs", rootfs, "--", "true"];
    await lab.mwarp.ok(seed, { timeoutMs: RUN_MS });
    await lab.mwarp.ok(["rm", "-f", `${name}-seed`]);
    const words = ["run", "--vm", vm, "--name", name, "--rootfs", rootfs, "--", ...argv];
    const { ipv4 } = await lab.mwarp.json(ContainerEntrySchema, words, { timeoutMs: RUN_MS });
    return new MovingApplication(lab, vm, application, ipv4);
  }

  /** Starts the client in the lab's network, which asks from when all its connections are open. It is killed when `signal` aborts. */
  async connect(signal: AbortSignal): Promise<void> {
    const { namespace } = await this.workload.lab.status();
    const target = { ...this.#options, host: this.ipv4, pause_ms: PAUSE_MS };
    this.#client = new ClientProcess<string>({
      what: `the client of ${this.name}`,
      file: path.join(projectRoot, "test/support/application-client.mjs"),
      args: [JSON.stringify(target)],
      prefix: insideNamespace(namespace!),
      limitMs: ANSWERS_MS,
      signal,
    });
    await this.#client.ask("start");
  }

  /** Moves it to the other VM in the middle of its client's work, and waits until the client has answers again. */
  async move(): Promise<MigrationReport> {
    const to = otherVm(this.#vm);
    await sleep(BEFORE_MS);
    const begin = monotonicMs();
    const report = await this.workload.migrate(to);
    const end = monotonicMs();
    this.#vm = to;
    const first = await this.#answersAfter(end);
    await sleep(AFTER_MS);
    this.#record(report, await this.#operations(), { begin, end: first });
    return report;
  }

  /** Ends the client's work once every answer is there, and has it look at all the data. Fails unless everything was right. */
  async settle(): Promise<number> {
    const { answers, faults } = SettledSchema.parse(await this.#client?.ask("settle"));
    await this.#client?.[Symbol.asyncDispose]();
    expect(faults, `what the client of ${this.name} met`).toEqual([]);
    expect(answers).toBeGreaterThan(0);
    this.answers = answers;
    return answers;
  }

  /** Runs a program in the container and gives its output. */
  exec(...argv: string[]): Promise<string> {
    return this.workload.lab.mwarp.ok(["exec", this.name, "--", ...argv]);
  }

  async #operations(): Promise<Operations> {
    return OperationsSchema.parse(await this.#client?.ask("operations"));
  }

  /** The instant of the first answer after `since`. */
  #answersAfter(since: number): Promise<number> {
    return until(
      `${this.name} to answer after its move`,
      async () => (await this.#operations()).find(([ended]) => ended > since)?.[0],
      { timeoutMs: ANSWERS_MS, intervalMs: 200 },
    );
  }

  #record(
    { to, time_ms }: MigrationReport,
    pairs: Operations,
    { begin, end }: { begin: number; end: number },
  ): void {
    const operations = pairs.map(([endedAt, latencyMs]) => ({ endedAt, latencyMs }));
    const after = Math.ceil((end + AFTER_MS - begin) / INTERVAL_MS) * INTERVAL_MS;
    const window = { zero: begin, before: BEFORE_MS, after, interval: INTERVAL_MS };
    const count = (from: number, until: number): number =>
      operations.filter(({ endedAt }) => endedAt > from && endedAt <= until).length;
    const around = operations.filter(({ endedAt }) => endedAt > begin && endedAt <= end + AFTER_MS);
    this.moves.push({
      to,
      time_ms,
      longest_wait_ms: Math.max(...around.map(({ latencyMs }) => latencyMs)),
      rate_before: (1000 * count(begin - BEFORE_MS, begin)) / BEFORE_MS,
      rate_after: (1000 * count(end, end + AFTER_MS)) / AFTER_MS,
      samples: cutTimeline(operations, window).samples,
    });
  }
}

/** Writes what the clients saw to test-results/applications.json and gives it as lines for people. */
export function writeRecords(applications: readonly MovingApplication[]): string {
  const records = applications.map(({ name, answers, moves }) => ({ application: name, answers, moves }));
  const directory = path.join(projectRoot, "test-results");
  mkdirSync(directory, { recursive: true });
  writeFileSync(path.join(directory, "applications.json"), `${JSON.stringify(records, null, 1)}\n`);
  const line = (name: string, move: MoveRecord): string =>
    [
      `${name} -> ${move.to}: ${move.rate_before.toFixed(0)}/s before, ${move.rate_after.toFixed(0)}/s after,`,
      `longest wait ${move.longest_wait_ms.toFixed(0)} ms, downtime ${move.time_ms.downtime.toFixed(0)} ms`,
    ].join(" ");
  return applications.flatMap(({ name, moves }) => moves.map((move) => line(name, move))).join("\n");
}

/** How far a run is, on stderr: a bar on a terminal, a line for each measurement elsewhere. */
import { MultiBar, type SingleBar } from "cli-progress";
import type { Io } from "../cli/io.js";
import { formatBytes, formatMs } from "../cli/output/format.js";
import { plain } from "../cli/output/plain.js";
import { nameOfTask, type Task } from "./plan.js";
import type { ApplicationRecord, BenchRecord, StallRecord } from "./records.js";
import { formatShortTime } from "./report/format.js";
import { lostShare } from "./results.js";
import { stallQuantile } from "./stall-histogram.js";

const FORMAT = "{bar} {value}/{total}  {left}  {what}";
const BAR_WIDTH = 24;

export class BenchProgress implements Disposable {
  readonly #out: Io["stderr"];
  readonly #bars: MultiBar | null;
  readonly #now: () => number;
  readonly #times = new Map<string, { sum: number; count: number }>();
  #bar: SingleBar | null = null;
  #left: readonly Task[] = [];
  #total = 0;
  #startedAt = 0;
  /** The last note: work that goes on says the same again and again. */
  #noted = "";

  constructor(io: Pick<Io, "stderr" | "env">, now: () => number = () => performance.now()) {
    this.#out = io.stderr;
    this.#now = now;
    const live = io.stderr.isTTY === true && io.env.TERM !== "dumb";
    this.#bars = live
      ? new MultiBar({
          stream: io.stderr,
          format: FORMAT,
          barsize: BAR_WIDTH,
          hideCursor: true,
          clearOnComplete: true,
          // Ctrl-C is the command's.
          gracefulExit: false,
        })
      : null;
  }

  /** @param done measurements that the file had already */
  begin(tasks: readonly Task[], done: number): void {
    this.#left = tasks;
    this.#total = tasks.length + done;
    this.#bar = this.#bars?.create(this.#total, done, { left: this.#timeLeft(), what: "" }) ?? null;
    if (done > 0) this.#line(`${done} of ${this.#total} measurements are in the file`);
  }

  start(task: Task): void {
    this.#startedAt = this.#now();
    this.#draw({ what: `round ${task.round + 1}: ${nameOfTask(task)}` });
  }

  measured(task: Task, record: BenchRecord): void {
    this.#learn(nameOfTask(task), this.#now() - this.#startedAt);
    this.#finish([task]);
    const count = `[${this.#done}/${this.#total}]`;
    this.#draw();
    if (this.#bar === null || !isGood(record))
      this.#line(`${count} round ${task.round + 1}: ${nameOfTask(task)}: ${resultLine(record)}`);
  }

  /** @param tasks those that it was the end of */
  failed(what: string, message: string, tasks: readonly Task[]): void {
    this.#finish(tasks);
    this.#draw();
    this.#line(`[${this.#done}/${this.#total}] ${what}: failed: ${message}`);
  }

  /** What goes on besides the measurements. */
  note(text: string): void {
    if (text === this.#noted) return;
    this.#noted = text;
    if (this.#bar === null) this.#line(text);
    else this.#draw({ what: plain(text) });
  }

  [Symbol.dispose](): void {
    if (this.#bar === null) return;
    this.#bar = null;
    this.#bars?.stop();
  }

  get #done(): number {
    return this.#total - this.#left.length;
  }

  #finish(tasks: readonly Task[]): void {
    this.#left = this.#left.filter((task) => !tasks.includes(task));
  }

  /** At once, not when the library's timer comes round. */
  #draw(payload: { what?: string } = {}): void {
    if (this.#bar === null) return;
    this.#bar.update(this.#done, { left: this.#timeLeft(), ...payload });
    this.#bars?.update();
  }

  /** A line of its own, above the bar when there is one. */
  #line(text: string): void {
    const line = `${plain(text)}\n`;
    if (this.#bar === null) {
      this.#out.write(line);
      return;
    }
    this.#bars?.log(line);
    this.#bars?.update();
  }

  #learn(name: string, ms: number): void {
    const { sum, count } = this.#times.get(name) ?? { sum: 0, count: 0 };
    this.#times.set(name, { sum: sum + ms, count: count + 1 });
  }

  /** From what the same measurement took so far, and the mean of all for one that was not made yet. */
  #timeLeft(): string {
    const known = [...this.#times.values()];
    if (known.length === 0) return "";
    const mean = known.reduce((all, { sum, count }) => all + sum / count, 0) / known.length;
    const ms = this.#left.reduce((all, task) => {
      const time = this.#times.get(nameOfTask(task));
      return all + (time === undefined ? mean : time.sum / time.count);
    }, 0);
    return `${formatMs(ms)} left`;
  }
}

/** Whether it leaves a container behind that can be measured on. */
export const isGood = (record: BenchRecord): boolean =>
  (record.kind !== "migration" && record.kind !== "stalls") || record.verified;

function stallLine({ report, stalls, verified }: StallRecord): string {
  const p99 = stallQuantile(stalls.histogram, 0.99) ?? 0;
  const pages = verified ? "every page right" : "PAGES ARE WRONG";
  return `downtime ${formatMs(report.time_ms.downtime)}, p99 of a page ${formatShortTime(p99)}, longest ${formatShortTime(stalls.longest_ms)}, ${pages}`;
}

const lostText = (record: ApplicationRecord): string => {
  const share = lostShare(record);
  return share === null ? "an unknown share" : `${Math.round(100 * share)} %`;
};

function resultLine(record: BenchRecord): string {
  if (record.kind === "network")
    return `${formatBytes((record.bytes / record.time_ms) * 1000)}/s ${record.from} -> ${record.to}`;
  if (record.kind === "floor")
    return `the process stood still for ${formatMs(record.frozen_ms)} in ${record.vm}`;
  if (record.kind === "application") {
    const { total, downtime } = record.report.time_ms;
    return `total ${formatMs(total)}, downtime ${formatMs(downtime)}, ${lostText(record)} of the operations lost`;
  }
  if (record.kind === "stalls") return stallLine(record);
  if (record.kind !== "migration") return "done";
  const { report, verified, first_touch_ms } = record;
  const touch = first_touch_ms === null ? "" : `, first touch ${formatMs(first_touch_ms)}`;
  const pages = verified ? "every page right" : "PAGES ARE WRONG";
  const { total, downtime } = report.time_ms;
  return `total ${formatMs(total)}, downtime ${formatMs(downtime)}${touch}, ${pages}`;
}

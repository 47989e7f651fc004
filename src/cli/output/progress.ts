/** A migration as it goes: one live line on a terminal, one line per phase elsewhere. Always on stderr. */
import type { MigrationEvent, Phase } from "../../protocol/migration.js";
import type { Io, OutStream } from "../io.js";
import { formatMs } from "./format.js";
import { plain } from "./plain.js";
import { type Painter, painter } from "./style.js";

const REDRAW_MS = 100;
const CLEAR_LINE = "\r\u001b[2K";

export interface ProgressHead {
  readonly container: string;
  readonly to: string;
}

export class MigrationProgress implements Disposable {
  readonly #out: OutStream;
  readonly #live: boolean;
  readonly #paint: Painter;
  readonly #head: ProgressHead;
  readonly #now: () => number;
  #phase: { name: Phase; since: number } | null = null;
  #started: number;
  #timer: NodeJS.Timeout | null = null;
  #drawn = false;

  constructor(
    io: Pick<Io, "stderr" | "env">,
    head: ProgressHead,
    now: () => number = () => performance.now(),
  ) {
    this.#out = io.stderr;
    this.#live = io.stderr.isTTY === true && io.env.TERM !== "dumb";
    this.#paint = painter(io, io.stderr);
    this.#head = head;
    this.#now = now;
    this.#started = now();
    if (this.#live) {
      this.#timer = setInterval(() => this.#draw(), REDRAW_MS);
      this.#timer.unref();
    }
  }

  handle(event: MigrationEvent): void {
    switch (event.event) {
      case "phase":
        this.#endPhase(event.elapsed_ms);
        // The daemon's clock counts; this side only knows when it heard of it.
        this.#started = this.#now() - event.elapsed_ms;
        this.#phase = { name: event.phase, since: event.elapsed_ms };
        this.#draw();
        break;
      case "committed":
        this.say(`committed after ${formatMs(event.elapsed_ms)}: it runs on ${this.#head.to} from here on`);
        break;
      case "note":
        this.say(event.message);
        break;
      case "done":
        this.#endPhase(event.report.time_ms.total);
        this[Symbol.dispose]();
    }
  }

  /** A line of its own, above the live one. */
  say(message: string): void {
    this.#clear();
    this.#out.write(`${plain(message)}\n`);
    this.#draw();
  }

  [Symbol.dispose](): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#phase = null;
    this.#clear();
  }

  #endPhase(elapsed: number): void {
    if (this.#phase === null || this.#live) return;
    const { name, since } = this.#phase;
    this.#out.write(`${name} ${formatMs(Math.max(0, elapsed - since))}\n`);
  }

  #draw(): void {
    if (!this.#live || this.#phase === null) return;
    const elapsed = formatMs(this.#now() - this.#started);
    const name = this.#paint("cyan", this.#phase.name);
    const route = plain(`${this.#head.container} -> ${this.#head.to}`);
    this.#out.write(`${CLEAR_LINE}${route}  ${name}  ${elapsed}`);
    this.#drawn = true;
  }

  #clear(): void {
    if (this.#drawn) this.#out.write(CLEAR_LINE);
    this.#drawn = false;
  }
}

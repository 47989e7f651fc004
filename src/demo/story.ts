/** What the demo tells while it runs: a line per step on stderr, a counter that is redrawn on a terminal. */
import type { Io } from "../cli/io.js";
import { formatMs } from "../cli/output/format.js";
import { plain } from "../cli/output/plain.js";
import { painter } from "../cli/output/style.js";

const CLEAR_LINE = "\r\u001b[2K";

export class Story {
  private readonly paint;
  private readonly live: boolean;
  private step = 0;

  constructor(private readonly io: Pick<Io, "stderr" | "env">) {
    this.paint = painter(io, io.stderr);
    this.live = io.stderr.isTTY === true && io.env.TERM !== "dumb";
  }

  /** The next numbered step. */
  begin(text: string): void {
    this.step++;
    this.line(`${this.paint("bold", `${this.step}. ${text}`)}`);
  }

  say(text: string): void {
    this.line(`   ${plain(text)}`);
  }

  good(text: string): void {
    this.line(`   ${this.paint("green", text)}`);
  }

  bad(text: string): void {
    this.line(`   ${this.paint("red", text)}`);
  }

  /** Runs `work` with a counter of how far it is, and says at the end how long it took. */
  async counted<T>(
    what: string,
    total: number,
    work: (progress: (done: number) => void) => Promise<T>,
  ): Promise<T> {
    const start = performance.now();
    const result = await work((done) => {
      if (this.live) this.io.stderr.write(`${CLEAR_LINE}   ${what}: ${Math.floor((100 * done) / total)} %`);
    });
    this.line(`   ${what}: ${formatMs(performance.now() - start)}`);
    return result;
  }

  /** What is not painted must be plain. */
  private line(text: string): void {
    this.io.stderr.write(`${this.live ? CLEAR_LINE : ""}${text}\n`);
  }
}

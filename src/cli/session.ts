/** One invocation of the command line: how commands answer, talk, and reach the daemon. */
import type { Command } from "commander";
import type { DaemonClient } from "../daemon/client.js";
import { ExitCode, MwarpError } from "../errors.js";
import type { Io } from "./io.js";
import { plain } from "./output/plain.js";
import { type Painter, painter } from "./output/style.js";

export class Session {
  readonly io: Io;
  /** The command line as it was typed, without node and script. */
  readonly argv: readonly string[];
  /** Set before an action runs, from its `--json`. */
  json = false;
  /** Set by an action whose outcome has an exit status of its own. */
  exitCode: number = ExitCode.done;
  readonly paint: Painter;

  constructor(io: Io, argv: readonly string[] = []) {
    this.io = io;
    this.argv = argv;
    this.paint = painter(io, io.stderr);
  }

  /** The result as the one JSON document of this invocation. */
  document(value: unknown): void {
    this.io.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
  }

  /** Data for people, on stdout. */
  print(text: string): void {
    this.printPainted(plain(text));
  }

  /** Talk, on stderr. */
  say(text: string): void {
    this.sayPainted(plain(text));
  }

  /** The same for a line with colour in it: every other part of it must be plain already. */
  printPainted(line: string): void {
    this.io.stdout.write(line.endsWith("\n") ? line : `${line}\n`);
  }

  sayPainted(line: string): void {
    this.io.stderr.write(`${line}\n`);
  }

  async table(headers: readonly string[], rows: readonly (readonly string[])[]): Promise<void> {
    const { renderTable } = await import("./output/table.js");
    this.print(renderTable(headers, rows));
  }

  /** A client of the daemon, which is started when none runs. */
  async daemon(): Promise<DaemonClient> {
    const { connect } = await import("./connect.js");
    return connect(this.io, (text) => this.say(text));
  }

  /** @throws MWARP_E_NOT_ROOT */
  requireRoot(what: string): void {
    if (!this.io.isRoot) throw new MwarpError("MWARP_E_NOT_ROOT", `${what} needs root`);
  }

  /**
   * Runs something that Ctrl-C may cut short: the first asks, through the signal; the second ends the process.
   * @throws Interrupted when the work failed because of it
   */
  async interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const abort = new AbortController();
    const off = this.io.onInterrupt(() => {
      if (abort.signal.aborted) this.io.exit(ExitCode.interrupted);
      abort.abort(new Interrupted());
    });
    try {
      return await work(abort.signal);
    } catch (error) {
      if (abort.signal.aborted) throw new Interrupted();
      throw error;
    } finally {
      off();
    }
  }
}

/** Ctrl-C ended the command. */
export class Interrupted extends Error {
  constructor() {
    super("interrupted");
    this.name = "Interrupted";
  }
}

/** Registers one command; each file of commands/ exports one of these. */
export type Register = (program: Command, session: Session) => void;

/** Adds `--json` to a command. */
export function withJson(command: Command): Command {
  return command.option("--json", "print the result as one JSON document");
}

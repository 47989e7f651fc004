/** The outside of the command line, in one object: streams, environment, signals. Tests hand in their own. */
import type { Readable, Writable } from "node:stream";

export type OutStream = Writable & {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
};
export type InStream = Readable & {
  readonly isTTY?: boolean;
  readonly setRawMode?: (raw: boolean) => unknown;
};

export interface Io {
  readonly stdin: InStream;
  /** Data only. */
  readonly stdout: OutStream;
  /** Everything said to a person. */
  readonly stderr: OutStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly isRoot: boolean;
  /** Program and arguments that serve as the daemon in the foreground. */
  readonly daemonCommand: readonly [string, ...string[]];
  /** Listens to Ctrl-C and SIGTERM; the returned function ends it. While nobody listens, they end the process. */
  onInterrupt(listener: () => void): () => void;
  /** Ends the process at once: a second Ctrl-C. */
  exit(code: number): void;
}

/** The real process. @param mainFile the file that Node runs as the command line */
export function processIo(mainFile: string): Io {
  return {
    // Opened only by commands that read it.
    get stdin() {
      return process.stdin;
    },
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    isRoot: process.geteuid?.() === 0,
    daemonCommand: [process.execPath, mainFile, "daemon", "run"],
    onInterrupt(listener) {
      process.on("SIGINT", listener);
      process.on("SIGTERM", listener);
      return () => {
        process.off("SIGINT", listener);
        process.off("SIGTERM", listener);
      };
    },
    exit: (code) => process.exit(code),
  };
}

/** Waiting for lines of a program's output, with a time limit. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** A program whose output is read line by line; ends with the scope that holds it (`await using`). */
export interface LineProcess extends AsyncDisposable {
  readonly pid: number;
  readonly lines: readonly string[];
  /** The first line from number `from` on that matches; rejects after `timeoutMs`, or when the program ends first. */
  waitFor(pattern: RegExp, options?: { from?: number; timeoutMs?: number }): Promise<RegExpMatchArray>;
  /** Writes one line to the program's standard input. */
  send(line: string): void;
  endInput(): void;
}

/** Starts `argv` with no shell. Standard error is kept with the lines. */
export async function startLines(argv: readonly [string, ...string[]]): Promise<LineProcess> {
  const child = spawn(argv[0], argv.slice(1), { stdio: ["pipe", "pipe", "pipe"] });
  const lines: string[] = [];
  const wakers = new Set<() => void>();
  const wake = (): void => {
    for (const waker of wakers) waker();
  };
  const add = (line: string): void => {
    lines.push(line);
    wake();
  };
  createInterface({ input: child.stdout }).on("line", add);
  createInterface({ input: child.stderr }).on("line", add);
  // A program that ended cannot take input; waitFor reports the end.
  child.stdin.on("error", wake);
  // A test that ran out of time never reaches the end of its scope.
  const killAtExit = (): void => void child.kill("SIGKILL");
  process.once("exit", killAtExit);
  let ended = false;
  const gone = new Promise<void>((resolve) => {
    child.on("close", () => {
      ended = true;
      process.off("exit", killAtExit);
      wake();
      resolve();
    });
  });
  const pid = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("spawn", () => resolve(child.pid ?? -1));
  });

  const waitFor: LineProcess["waitFor"] = async (pattern, { from = 0, timeoutMs = 8_000 } = {}) => {
    const deadline = Date.now() + timeoutMs;
    for (let next = from; ; ) {
      for (; next < lines.length; next++) {
        const match = lines[next].match(pattern);
        if (match) return match;
      }
      const rest = deadline - Date.now();
      if (ended || rest <= 0) {
        throw new Error(
          `${argv.join(" ")}: ${ended ? "ended" : "time is up"} before ${pattern}; last lines:\n${lines.slice(-10).join("\n")}`,
        );
      }
      await new Promise<void>((resolve) => {
        const done = (): void => {
          clearTimeout(timer);
          wakers.delete(done);
          resolve();
        };
        const timer = setTimeout(done, rest);
        wakers.add(done);
      });
    }
  };

  return {
    pid,
    lines,
    waitFor,
    send: (line) => void child.stdin.write(`${line}\n`),
    endInput: () => void child.stdin.end(),
    async [Symbol.asyncDispose]() {
      if (!ended) child.kill("SIGKILL");
      await gone;
    },
  };
}

/** Commands of the guest, each with a time limit. */
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { type ErrorCode, MwarpError } from "../errors.js";

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly input?: string;
  readonly timeoutMs?: number;
  readonly cwd?: string;
}

const COMMAND_TIMEOUT_MS = 30_000;
const DETAIL_LINES = 20;

/** Exit code as a shell gives it: 128 + signal for a killed process. */
export const shellCode = (code: number | null, signal: NodeJS.Signals | null): number =>
  code ?? 128 + (signal === null ? 0 : constants.signals[signal]);

/** SIGKILL to a process, or (negative) to a process group; one that is gone is no error. */
export function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

/** Runs a command to its end. `MWARP_E_TIMEOUT` when it takes too long (it is killed), `MWARP_E_RUNTIME` when it cannot start. */
export function run(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const timeoutMs = options.timeoutMs ?? COMMAND_TIMEOUT_MS;
  const name = argv.slice(0, 3).join(" ");
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0] ?? "", argv.slice(1), { stdio: "pipe", cwd: options.cwd ?? "/" });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill("SIGKILL");
    }, timeoutMs);
    child.stdout.on("data", (data: Buffer) => out.push(data));
    child.stderr.on("data", (data: Buffer) => err.push(data));
    // The command may end without reading its input; its exit code says what happened.
    child.stdin.on("error", () => undefined);
    child.stdin.end(options.input ?? "");
    child.on("error", (error) => {
      clearTimeout(timer);
      reject(new MwarpError("MWARP_E_RUNTIME", `${name}: ${error.message}`, { cause: error }));
    });
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      if (timedOut) reject(new MwarpError("MWARP_E_TIMEOUT", `${name} took longer than ${timeoutMs} ms`));
      else {
        const stdout = Buffer.concat(out).toString();
        resolve({ code: shellCode(code, signal), stdout, stderr: Buffer.concat(err).toString() });
      }
    });
  });
}

/** Last lines of a tool's output, for an error's details. */
export const lastLines = (text: string, count = DETAIL_LINES): string[] =>
  text
    .split("\n")
    .filter((line) => line.trim() !== "")
    .slice(-count);

/** Like `run`, but any exit code but 0 is an error with the command's last lines. Answers with stdout. */
export async function mustRun(
  argv: readonly string[],
  options: CommandOptions & { code?: ErrorCode } = {},
): Promise<string> {
  const result = await run(argv, options);
  if (result.code === 0) return result.stdout;
  throw new MwarpError(
    options.code ?? "MWARP_E_RUNTIME",
    `${argv.slice(0, 3).join(" ")} exited with ${result.code}`,
    { details: lastLines(result.stderr || result.stdout) },
  );
}

/** Polls until `ready` answers something but null. `MWARP_E_TIMEOUT` after `timeoutMs`, or the reason of `signal`. */
export async function pollUntil<T>(
  what: string,
  ready: () => Promise<T | null> | T | null,
  options: { timeoutMs: number; everyMs?: number; signal?: AbortSignal },
): Promise<T> {
  const deadline = performance.now() + options.timeoutMs;
  for (;;) {
    const value = await ready();
    if (value !== null) return value;
    options.signal?.throwIfAborted();
    if (performance.now() > deadline) {
      throw new MwarpError("MWARP_E_TIMEOUT", `${what} took longer than ${options.timeoutMs} ms`);
    }
    await sleep(options.everyMs ?? 5);
  }
}

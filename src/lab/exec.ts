/** Runs a command to its end: time limit, cancelling, and the command's own words when it fails. */
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { MwarpError } from "../errors.js";

export interface RunOptions {
  signal?: AbortSignal | undefined;
  /** Milliseconds; 60 s when not given. */
  timeoutMs?: number;
  env?: Readonly<Record<string, string>>;
  /** Output goes to this file instead of the result. */
  logFile?: string;
  /** What ends the command early: SIGTERM when not given, SIGKILL three seconds later. */
  endWith?: "SIGTERM" | "SIGKILL";
}

/** A builder that is killed with SIGKILL must not leave its children at work. */
const dieWithUs = ["setpriv", "--pdeathsig", "KILL", "--"] as const;
const TAIL_LINES = 12;
const MAX_OUTPUT = 16 * 1024 * 1024;

/** The last lines of a text, without empty ones. */
export const lastLines = (text: string, count: number): string[] =>
  text
    .split("\n")
    .filter((line) => line.trim() !== "")
    .slice(-count);

/**
 * Runs `argv` and returns its standard output. The child dies with this process.
 * @throws MWARP_E_LAB with the last lines of standard error; MWARP_E_TIMEOUT; MWARP_E_CANCELLED.
 */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  if (options.signal?.aborted) throw cancelled(argv);
  const log = options.logFile === undefined ? null : openSync(options.logFile, "a");
  const timeoutMs = options.timeoutMs ?? 60_000;
  try {
    return await new Promise<string>((resolve, reject) => {
      const [program, ...args] = [...dieWithUs, ...argv];
      const child = spawn(program, args, {
        stdio: ["ignore", log ?? "pipe", log ?? "pipe"],
        env: { ...process.env, ...options.env },
      });
      let stdout = "";
      let stderr = "";
      let stopped: MwarpError | null = null;
      const stop = (reason: MwarpError): void => {
        stopped ??= reason;
        child.kill(options.endWith ?? "SIGTERM");
        setTimeout(() => child.kill("SIGKILL"), 3000).unref();
      };
      const onAbort = () => stop(cancelled(argv));
      const timer = setTimeout(
        () => stop(new MwarpError("MWARP_E_TIMEOUT", `${argv[0]} did not end in ${timeoutMs / 1000} s`)),
        timeoutMs,
      );
      options.signal?.addEventListener("abort", onAbort);
      child.stdout?.setEncoding("utf8").on("data", (text: string) => {
        if (stdout.length < MAX_OUTPUT) stdout += text;
      });
      child.stderr?.setEncoding("utf8").on("data", (text: string) => {
        stderr = (stderr + text).slice(-64 * 1024);
      });
      child.on("error", (error) =>
        reject(new MwarpError("MWARP_E_LAB", `cannot run ${argv[0]}: ${error.message}`)),
      );
      child.on("close", (code, signal) => {
        clearTimeout(timer);
        options.signal?.removeEventListener("abort", onAbort);
        if (stopped !== null) reject(stopped);
        else if (code === 0) resolve(stdout);
        else
          reject(
            failed(
              argv,
              code === null ? `was ended by ${signal}` : `failed with exit code ${code}`,
              stderr,
              options,
            ),
          );
      });
    });
  } finally {
    if (log !== null) closeSync(log);
  }
}

const cancelled = (argv: readonly string[]): MwarpError =>
  new MwarpError("MWARP_E_CANCELLED", `cancelled during ${argv[0]}`);

function failed(argv: readonly string[], how: string, stderr: string, options: RunOptions): MwarpError {
  return new MwarpError("MWARP_E_LAB", `${argv.slice(0, 4).join(" ")} ${how}`, {
    details: lastLines(stderr, TAIL_LINES),
    ...(options.logFile === undefined ? {} : { hint: `The log is ${options.logFile}.` }),
  });
}

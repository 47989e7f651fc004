/** Runs bin/mwarp as a user would, against directories of the test's own. */
import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type * as z from "zod/mini";
import { type Failure, FailureSchema } from "./documents.js";

export const projectRoot = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const program = path.join(projectRoot, "bin/mwarp");
const DEFAULT_TIMEOUT_MS = 120_000;

export interface Finished {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly process: ChildProcess;
  readonly finished: Promise<Finished>;
  /** Resolves when standard error or output has matched; rejects when the command ends first. */
  seen(pattern: RegExp): Promise<void>;
}

export interface RunOptions {
  timeoutMs?: number;
  input?: string;
}

/** The command with one environment: its own run and state directories make it blind to any other mWarp of the host. */
export class Mwarp {
  constructor(readonly env: Readonly<Record<string, string>>) {}

  /** Starts a command; it is killed at the time limit, which shows as exit -1. */
  start(args: readonly string[], { timeoutMs = DEFAULT_TIMEOUT_MS, input = "" }: RunOptions = {}): Running {
    const child = spawn(program, args, {
      env: { ...process.env, ...this.env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    const output = { stdout: "", stderr: "" };
    const checks = new Set<() => void>();
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8");
      child[name].on("data", (text: string) => {
        output[name] += text;
        for (const check of checks) check();
      });
    }
    // A command that does not read its input may be gone before it is written.
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
    const finished = new Promise<Finished>((resolve, reject) => {
      const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
      child.on("error", reject);
      child.on("close", (code) => {
        clearTimeout(timer);
        resolve({ exit: code ?? -1, ...output });
      });
    });
    const seen = (pattern: RegExp): Promise<void> =>
      new Promise((resolve, reject) => {
        const check = (): void => {
          if (!pattern.test(output.stderr) && !pattern.test(output.stdout)) return;
          checks.delete(check);
          resolve();
        };
        checks.add(check);
        check();
        void finished.then((end) =>
          reject(
            new Error(`mwarp ${args.join(" ")} ended with ${end.exit} before ${pattern}:\n${end.stderr}`),
          ),
        );
      });
    return { process: child, finished, seen };
  }

  run(args: readonly string[], options?: RunOptions): Promise<Finished> {
    return this.start(args, options).finished;
  }

  /** Runs a command that must succeed and gives its standard output. */
  async ok(args: readonly string[], options?: RunOptions): Promise<string> {
    const end = await this.run(args, options);
    if (end.exit !== 0) {
      throw new Error(`mwarp ${args.join(" ")} exited with ${end.exit}\n${end.stderr}${end.stdout}`);
    }
    return end.stdout;
  }

  /** Runs a command with --json that must succeed and gives its one document. */
  async json<S extends z.ZodMiniType>(
    schema: S,
    args: readonly string[],
    options?: RunOptions,
  ): Promise<z.infer<S>> {
    return schema.parse(JSON.parse(await this.ok(withJson(args), options)));
  }

  /** Runs a command with --json that must fail and gives its exit status and the error of its document. */
  async refusal(args: readonly string[], options?: RunOptions): Promise<{ exit: number; error: Failure }> {
    const end = await this.run(withJson(args), options);
    if (end.exit === 0) throw new Error(`mwarp ${args.join(" ")} succeeded:\n${end.stdout}`);
    return { exit: end.exit, error: FailureSchema.parse(JSON.parse(end.stdout)).error };
  }
}

/** `--json` belongs before a `--` that starts the container's own words. */
function withJson(args: readonly string[]): readonly string[] {
  const own = args.indexOf("--");
  return own < 0 ? [...args, "--json"] : [...args.slice(0, own), "--json", ...args.slice(own)];
}

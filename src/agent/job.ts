/** Commands whose exit code must be known even to an agent that was restarted meanwhile (native/guest/shim.c). */
import { spawn } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { MwarpError } from "../errors.js";
import { exists, readIfThere, readNumber } from "./files.js";
import { log } from "./log.js";
import { CRIU_CONF, HELPER } from "./paths.js";
import { kill, pollUntil } from "./process.js";

const END_TIMEOUT_MS = 10_000;

type Environment = Readonly<Record<string, string>>;

/** CRIU takes its configuration from here; see criu-conf.ts. */
const stock: Environment = { CRIU_CONFIG_FILE: CRIU_CONF };

/** The pid is written here, and by the program again: from now on the job is known to run, by who must end it too. */
async function launch(dir: string, args: readonly string[], added: Environment): Promise<void> {
  const env = { ...process.env, ...stock, ...added };
  const child = spawn(HELPER, args, { detached: true, stdio: "ignore", env, cwd: "/" });
  child.on("error", (error) => log("error", `${HELPER}: ${error.message}`));
  child.unref();
  if (child.pid === undefined) throw new MwarpError("MWARP_E_RUNTIME", `${HELPER} could not be started`);
  await writeFile(join(dir, "pid"), `${child.pid}\n`);
}

async function freshDirectory(dir: string): Promise<void> {
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true });
}

/** Starts a command; its output lands in DIR/output, its exit code in DIR/status. @param added to its environment */
export async function startJob(dir: string, argv: readonly string[], added: Environment = {}): Promise<void> {
  await freshDirectory(dir);
  await launch(dir, ["job", dir, "--", ...argv], added);
}

/** What a container has for its standard streams. */
export type Stdio = "pipes" | "terminal";

/** What runc must be told of them: where it delivers the master of a terminal to the shim. */
export const consoleArguments = (stdio: Stdio, jobDir: string): string[] =>
  stdio === "terminal" ? ["--console-socket", join(jobDir, "console")] : [];

/** Starts runc under a shim that keeps the container's output and exit code. */
export async function startShim(
  containerDir: string,
  jobDir: string,
  argv: readonly string[],
  { stdio, added = {} }: { readonly stdio: Stdio; readonly added?: Environment },
): Promise<void> {
  await freshDirectory(jobDir);
  const terminal = stdio === "terminal" ? ["--terminal"] : [];
  await launch(jobDir, ["shim", ...terminal, containerDir, jobDir, "--", ...argv], added);
}

/**
 * Starts `criu lazy-pages` under a keeper that sees to it that the tasks of the cgroup never read a page that did not come; files
 * of DIR as for a job, and those that native/guest/lazy.c names.
 */
export async function startKeeper(dir: string, cgroup: string, argv: readonly string[]): Promise<void> {
  await freshDirectory(dir);
  await launch(dir, ["lazy", dir, cgroup, "--", ...argv], {});
}

/** Exit code of a job, or null while it runs. A job that vanished without a word counts as failed. */
export async function jobStatus(dir: string): Promise<number | null> {
  const status = await readNumber(join(dir, "status"));
  if (status !== null) return status;
  const pid = await readNumber(join(dir, "pid"));
  if (pid === null || (await exists(`/proc/${pid}`))) return null;
  // Between the two looks it may have ended in order.
  return (await readNumber(join(dir, "status"))) ?? 255;
}

export async function jobOutput(dir: string): Promise<string> {
  return (await readIfThere(join(dir, "output"))) ?? "";
}

/** True when a job was started in `dir` and has not ended. */
export async function jobRuns(dir: string): Promise<boolean> {
  return (await exists(join(dir, "pid"))) && (await jobStatus(dir)) === null;
}

/** Kills a job with all its processes; it leads a process group. */
export async function killJob(dir: string): Promise<void> {
  const pid = await readNumber(join(dir, "pid"));
  if (pid !== null) kill(-pid);
}

/** Kills a job and waits for its end; none may ever have been started. */
export async function endJob(dir: string): Promise<void> {
  if (!(await jobRuns(dir))) return;
  await killJob(dir);
  await pollUntil(`the end of ${dir}`, async () => ((await jobRuns(dir)) ? null : true), {
    timeoutMs: END_TIMEOUT_MS,
  });
}

/** Throws when the helper program is not installed: everything rests on it. */
export async function checkHelper(): Promise<void> {
  if (!(await exists(HELPER))) {
    throw new MwarpError("MWARP_E_RUNTIME", `the helper program ${HELPER} is missing`);
  }
}

/**
 * One health check: a command executed in the container, in a control group of its own. That is how whatever it has started is ended
 * with it, and how a migration tells it from a process that somebody executed there: it ends before the container is frozen.
 */
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type HealthCheck, KEPT_OUTPUT_CHARACTERS } from "../../protocol/health.js";
import { exists, isMissing } from "../files.js";
import { log } from "../log.js";
import { CHECK_GROUP, containerPaths } from "../paths.js";
import { kill, pollUntil, shellCode } from "../process.js";
import { runtimeOf } from "../runtimes/runtime.js";
import { killAll } from "./cgroup.js";
import { loadSpec } from "./store.js";

export interface CheckEnd {
  /** Null when it was ended before it ended by itself. */
  readonly exitCode: number | null;
  readonly output: string;
}

const KILL_EVERY_MS = 20;
/** What a check has said is read for so long after its end. */
const DRAIN_MS = 100;
const START_EVERY_MS = 20;
const START_TIMEOUT_MS = 30_000;
const RUNC_TIMEOUT_MS = 5_000;
const GROUP_TIMEOUT_MS = 5_000;

/**
 * Runs a check to its end, or until it has run for too long. What it leaves running ends with it.
 * @param init pid of the container's first process
 * @param stop ends it before its time
 * @throws what hinders runc from being started; ENOENT when the container is gone
 */
export async function runCheck(
  name: string,
  init: number,
  { command, timeoutMs }: Pick<HealthCheck, "command" | "timeoutMs">,
  stop: AbortSignal,
): Promise<CheckEnd> {
  const { dir, checkCgroup } = containerPaths(name);
  await endChecks(name);
  await mkdir(checkCgroup);
  const own = await mkdtemp(join(dir, "check-"));
  const late = new AbortController();
  const ended = new AbortController();
  try {
    const pidFile = join(own, "pid");
    const { runtime } = await loadSpec(name);
    const executing = await runtimeOf(runtime).executing(name, init, own);
    const flags = ["--cgroup", CHECK_GROUP, "--pid-file", pidFile];
    tooLong(pidFile, timeoutMs, ended.signal).then(
      () => late.abort(),
      // It ended before.
      () => undefined,
    );
    const either = AbortSignal.any([stop, late.signal]);
    return await execute([...executing, "exec", ...flags, name, ...command], checkCgroup, either);
  } finally {
    ended.abort();
    await rm(own, { recursive: true, force: true });
    await endChecks(name);
  }
}

/** Resolves when a command has run for too long. What runc takes to start it is none of the container's time, but has a limit, too. */
async function tooLong(pidFile: string, timeoutMs: number, ended: AbortSignal): Promise<void> {
  const latest = performance.now() + START_TIMEOUT_MS;
  while (!(await exists(pidFile)) && performance.now() < latest)
    await sleep(START_EVERY_MS, undefined, { signal: ended });
  await sleep(timeoutMs, undefined, { signal: ended });
}

function execute(
  [program = "", ...args]: readonly string[],
  cgroup: string,
  signal: AbortSignal,
): Promise<CheckEnd> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], detached: true, cwd: "/" });
    const ended = new AbortController();
    let output = "";
    let exitCode: number | null = null;
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8");
      stream.on("data", (text: string) => {
        output = (output + text).slice(-2 * KEPT_OUTPUT_CHARACTERS);
      });
    }
    const onAbort = (): void => {
      endGroup(cgroup, child.pid, ended.signal).catch((error: unknown) =>
        log("warn", `${cgroup}: ${String(error)}`),
      );
    };
    const through = (): void => {
      ended.abort();
      signal.removeEventListener("abort", onAbort);
    };
    child.on("error", (error) => {
      through();
      reject(error);
    });
    child.on("exit", (code, killed) => {
      ended.abort();
      exitCode = signal.aborted ? null : shellCode(code, killed);
      // What it has started may keep its pipes open for as long as it likes: that is not waited for.
      setTimeout(() => {
        child.stdout.destroy();
        child.stderr.destroy();
      }, DRAIN_MS);
    });
    child.on("close", () => {
      through();
      resolve({ exitCode, output });
    });
    signal.addEventListener("abort", onAbort);
    if (signal.aborted) onAbort();
  });
}

/**
 * Kills what is in the group until runc has ended by it. More than once: runc puts a process there only after that has entered the
 * container, and a runc that was killed in between would leave it in there, in no group of the container's.
 */
async function endGroup(cgroup: string, runc: number | undefined, ended: AbortSignal): Promise<void> {
  const late = performance.now() + RUNC_TIMEOUT_MS;
  while (!ended.aborted) {
    await killAll(cgroup);
    // Whatever keeps it, it must not keep those who want the container.
    if (runc !== undefined && performance.now() > late) kill(-runc);
    await sleep(KILL_EVERY_MS);
  }
}

/** Ends what is left of health checks in the container, also those that an agent before this one has started. */
export async function endChecks(name: string): Promise<void> {
  const { checkCgroup } = containerPaths(name);
  await pollUntil(
    `the end of ${checkCgroup}`,
    async () => {
      if (!(await exists(checkCgroup))) return true;
      await killAll(checkCgroup);
      await rmdir(checkCgroup).catch((error: unknown) => {
        // Busy: a moment more. Gone: so much the better.
        if (!isMissing(error) && !isBusy(error)) throw error;
      });
      return (await exists(checkCgroup)) ? null : true;
    },
    { timeoutMs: GROUP_TIMEOUT_MS, everyMs: 5 },
  );
}

const isBusy = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "EBUSY";

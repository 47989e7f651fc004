/** Reaches the daemon: starts one when none runs, replaces an idle one of another build. */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { DaemonClient } from "../daemon/client.js";
import { ExitCode, isMwarpError, MwarpError } from "../errors.js";
import { daemonLogFile, daemonSocket, stateDir } from "../paths.js";
import type { Version } from "../protocol/api.js";
import { currentBuild } from "../protocol/build.js";
import { isAlive, startTimeOf } from "../vm/process.js";
import type { Io } from "./io.js";

/** A fresh daemon serves within half a second on an idle machine; a loaded one under TCG may take ten. */
const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 60_000;
const ANSWER_TIMEOUT_MS = 5000;
const POLL_MS = 25;
const LOG_LINES = 5;

export type Say = (text: string) => void;

/**
 * A client of a daemon of this build.
 * @throws MWARP_E_DAEMON_UNREACHABLE when none can be started, MWARP_E_NOT_ROOT, MWARP_E_PROTOCOL when a busy daemon of
 * another build is in the way
 */
export async function connect(io: Io, say: Say): Promise<DaemonClient> {
  const client = new DaemonClient(daemonSocket(io.env));
  let version = await askVersion(client);
  if (version !== null && version.build !== currentBuild().build) {
    await replaceOther(io, client, version, say);
    version = null;
  }
  if (version === null) {
    if (!io.isRoot) throw new MwarpError("MWARP_E_NOT_ROOT", "no daemon runs, and starting one needs root");
    await startDaemonProcess(io, client);
  }
  return client;
}

/** A client, or null when no daemon runs; none is started. */
export async function connectIfRunning(io: Io): Promise<{ client: DaemonClient; version: Version } | null> {
  const client = new DaemonClient(daemonSocket(io.env));
  const version = await askVersion(client);
  return version === null ? null : { client, version };
}

/**
 * Asks the daemon to end and waits until its socket is silent and its process gone. Migrations roll back or finish first.
 * @throws MWARP_E_TIMEOUT
 */
export async function stopDaemon(client: DaemonClient, options: { ifUnused: boolean }): Promise<void> {
  const { pid } = await client.version();
  const startTime = startTimeOf(pid);
  await client.shutdown(options);
  const deadline = performance.now() + STOP_TIMEOUT_MS;
  const runs = (): boolean => startTime !== null && pid !== process.pid && isAlive({ pid, startTime });
  while ((await askVersion(client)) !== null || runs()) {
    if (performance.now() > deadline)
      throw new MwarpError("MWARP_E_TIMEOUT", "the daemon does not end; it may be finishing a migration");
    await sleep(POLL_MS);
  }
}

async function askVersion(client: DaemonClient): Promise<Version | null> {
  try {
    return await client.version(AbortSignal.timeout(ANSWER_TIMEOUT_MS));
  } catch (error) {
    if (isMwarpError(error, "MWARP_E_DAEMON_UNREACHABLE")) return null;
    if (error instanceof Error && (error.name === "TimeoutError" || error.name === "AbortError"))
      throw new MwarpError("MWARP_E_DAEMON_UNREACHABLE", "the daemon does not answer", { cause: error });
    throw error;
  }
}

async function replaceOther(io: Io, client: DaemonClient, running: Version, say: Say): Promise<void> {
  const mine = currentBuild();
  const what = `the daemon (pid ${running.pid}) is of build ${running.build}, this command of ${mine.build}`;
  if (running.busy > 0 || !io.isRoot)
    throw new MwarpError("MWARP_E_PROTOCOL", `${what}; it is busy`, {
      hint: "When its operations have ended: mwarp daemon stop, then the command again.",
    });
  say(`${what}: restarting it`);
  await stopDaemon(client, { ifUnused: false });
}

async function startDaemonProcess(io: Io, client: DaemonClient): Promise<void> {
  const [program, ...args] = io.daemonCommand;
  mkdirSync(stateDir(io.env), { recursive: true, mode: 0o750 });
  const log = openSync(daemonLogFile(io.env), "a", 0o640);
  const child = spawn(program, args, {
    detached: true,
    cwd: "/",
    env: { ...io.env },
    stdio: ["ignore", log, log],
  });
  closeSync(log);
  let ended: string | null = null;
  child.on("error", (error) => {
    ended = error.message;
  });
  child.on("exit", (code, signal) => {
    // A daemon that finds another one serving ends with `busy`: the other one is as good.
    if (code !== ExitCode.busy) ended = `it ended with ${signal ?? `status ${code}`}`;
  });
  child.unref();
  const deadline = performance.now() + START_TIMEOUT_MS;
  while ((await askVersion(client)) === null) {
    if (ended !== null) throw notStarted(io, ended);
    if (performance.now() > deadline) throw notStarted(io, `no answer within ${START_TIMEOUT_MS / 1000} s`);
    await sleep(POLL_MS);
  }
}

function notStarted(io: Io, why: string): MwarpError {
  const file = daemonLogFile(io.env);
  return new MwarpError("MWARP_E_DAEMON_UNREACHABLE", `the daemon could not be started: ${why}`, {
    details: readFileSync(file, "utf8").trimEnd().split("\n").slice(-LOG_LINES),
    hint: `Its log: ${file}`,
  });
}

/** Commands on behalf of the host, in the guest or in a container, with their three streams. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { MwarpError } from "../errors.js";
import type { AgentParams } from "../protocol/agent.js";
import { heldBy, initPid, loadSpec } from "./containers/store.js";
import { readNumber } from "./files.js";
import type { RequestContext } from "./methods.js";
import { containerPaths } from "./paths.js";
import { kill, shellCode } from "./process.js";
import { runtimeOf } from "./runtimes/runtime.js";
import type { DownStream, UpStream } from "./streams.js";

async function feed(child: ChildProcess, up: UpStream): Promise<void> {
  const stdin = child.stdin;
  if (!stdin) return;
  // A command may end without reading its input.
  stdin.on("error", () => undefined);
  for await (const data of up) {
    if (!stdin.write(data)) await Promise.race([once(stdin, "drain"), once(stdin, "close")]);
  }
  stdin.end();
}

async function drain(source: Readable | null, down: DownStream, fd: number): Promise<void> {
  if (source) for await (const data of source) await down.write(data as Buffer, { fd });
}

async function pump(
  child: ChildProcess,
  context: RequestContext,
  kill: () => void | Promise<void>,
): Promise<{ exitCode: number }> {
  const ended = new Promise<number>((resolve, reject) => {
    child.on("error", (error) => reject(new MwarpError("MWARP_E_RUNTIME", error.message, { cause: error })));
    child.on("exit", (code, signal) => resolve(shellCode(code, signal)));
  });
  const onAbort = () => void kill();
  context.signal.addEventListener("abort", onAbort);
  // Input still to come when the command ends is of no use; the request's end fails the stream.
  feed(child, context.up).catch(() => undefined);
  try {
    const [exitCode] = await Promise.all([
      ended,
      drain(child.stdout, context.down, 1),
      drain(child.stderr, context.down, 2),
    ]);
    return { exitCode };
  } catch (error) {
    await kill();
    throw error;
  } finally {
    context.signal.removeEventListener("abort", onAbort);
  }
}

const killGroup = (child: ChildProcess): void => {
  if (child.pid !== undefined) kill(-child.pid);
};

export function guestExec(
  params: AgentParams<"guest.exec">,
  context: RequestContext,
): Promise<{ exitCode: number }> {
  const [command = "", ...args] = params.argv;
  const child = spawn(command, args, { stdio: "pipe", detached: true, cwd: "/" });
  return pump(child, context, () => killGroup(child));
}

/** `MWARP_E_NOT_RUNNING` for a stopped container, `MWARP_E_BUSY` for one that a migration has. */
export async function containerExec(
  params: AgentParams<"container.exec">,
  context: RequestContext,
): Promise<{ exitCode: number }> {
  const { name } = params;
  const { runtime } = await loadSpec(name);
  const migration = await heldBy(name);
  if (migration !== null) {
    throw new MwarpError("MWARP_E_BUSY", `migration ${migration} has container ${name}`);
  }
  const init = await initPid(name);
  if (init === null) {
    throw new MwarpError("MWARP_E_NOT_RUNNING", `container ${name} does not run`);
  }
  const dir = await mkdtemp(join(containerPaths(name).dir, "exec-"));
  const pidFile = join(dir, "pid");
  const flags = [
    ...["--pid-file", pidFile],
    ...(params.cwd === null ? [] : ["--cwd", params.cwd]),
    ...params.env.flatMap((variable) => ["--env", variable]),
  ];
  const [program, ...args] = [
    ...(await runtimeOf(runtime).executing(name, init, dir)),
    "exec",
    ...flags,
    name,
    ...params.argv,
  ];
  const child = spawn(program, args, { stdio: "pipe", detached: true });
  try {
    return await pump(child, context, async () => {
      const pid = await readNumber(pidFile);
      if (pid !== null) kill(pid);
      killGroup(child);
    });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

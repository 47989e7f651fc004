/** The destination's part in moving a container's own files: they are put where its root and its volumes are to be mounted from. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { rename, rm } from "node:fs/promises";
import { MwarpError } from "../../errors.js";
import type { AgentParams } from "../../protocol/agent.js";
import type { ContainerSpec } from "../../protocol/container.js";
import { filesOf } from "../containers/volumes.js";
import type { Helper } from "../helper.js";
import { log } from "../log.js";
import { MemoryFile } from "../memory-files.js";
import type { RequestContext } from "../methods.js";
import { containerPaths, HELPER } from "../paths.js";
import { lastLines } from "../process.js";
import { NO_ROOM, unpack } from "../rootfs.js";
import { takeAll } from "../streams.js";

const LOG_MODE = 0o640;

/**
 * Takes what source.layer gave. Of a first pass that fails nothing stays: when there is no room, what is to clear the migration away
 * needs some.
 */
export async function receiveLayer(
  spec: ContainerSpec,
  params: Pick<AgentParams<"destination.layer">, "pass" | "parts">,
  context: RequestContext,
  helper: Helper,
): Promise<void> {
  try {
    await take(spec.name, params, context, helper);
  } catch (error) {
    if (params.pass === "first")
      await dropAll(spec, helper).catch((left: unknown) =>
        log("warn", `${spec.name}: a part of its files stays until the rollback: ${String(left)}`),
      );
    throw isFull(error) ? new MwarpError("MWARP_E_NO_MEMORY", NO_ROOM, { cause: error }) : error;
  }
}

const isFull = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "ENOSPC";

async function dropAll(spec: ContainerSpec, helper: Helper): Promise<void> {
  const { dir, comingLog } = containerPaths(spec.name);
  const none = filesOf(spec).map((tree) => `D${tree}\0`);
  await helper.incomingFiles(dir, Buffer.from(none.join("")), "before");
  await rm(comingLog, { force: true });
}

async function take(
  name: string,
  { pass, parts }: Pick<AgentParams<"destination.layer">, "pass" | "parts">,
  context: RequestContext,
  helper: Helper,
): Promise<void> {
  const { dir, log: itsLog, comingLog } = containerPaths(name);
  const changes = await takeAll(context.up, parts.changes);
  await helper.incomingFiles(dir, changes, "before");
  if (parts.blocks > 0) await patch(dir, parts.blocks, context);
  if (parts.archive > 0) await unpack(dir, parts.archive, context);
  await helper.incomingFiles(dir, changes, "after");
  using file = new MemoryFile(comingLog, parts.logBegins ? "w" : "a", LOG_MODE);
  for (let left = parts.log; left > 0; ) {
    const data = await context.up.take(left);
    file.append(data);
    left -= data.length;
  }
  if (parts.large > 0) await sayDigests(dir, parts.large, context);
  // A runc that stands by may have had something to say here already; its shim then goes on in this file (native/guest/shim.c).
  if (pass !== "first") await rename(comingLog, itsLog);
}

/** A part of `mwarp-guest`; `ended` rejects with its last lines when it fails. */
function startPart(argv: readonly string[]) {
  const child = spawn(HELPER, argv, { stdio: ["pipe", "pipe", "pipe"] });
  const errors: Buffer[] = [];
  child.stderr.on("data", (data: Buffer) => errors.push(data));
  child.stdin.on("error", () => undefined);
  const ended = new Promise<void>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) return resolve();
      const details = lastLines(Buffer.concat(errors).toString());
      reject(new MwarpError("MWARP_E_RUNTIME", `mwarp-guest ${argv[0]} exited with ${code}`, { details }));
    });
  });
  ended.catch(() => undefined);
  return { child, ended };
}

/** See native/guest/patch.c. */
async function patch(dir: string, bytes: number, context: RequestContext): Promise<void> {
  const { child, ended } = startPart(["patch", dir]);
  child.stdout.resume();
  try {
    for (let left = bytes; left > 0; ) {
      const data = await context.up.take(left);
      left -= data.length;
      if (!child.stdin.write(data)) await Promise.race([once(child.stdin, "drain"), ended]);
    }
    child.stdin.end();
    await ended;
  } finally {
    child.kill("SIGKILL");
  }
}

/** See native/guest/digest.c. */
async function sayDigests(dir: string, bytes: number, context: RequestContext): Promise<void> {
  const names = await takeAll(context.up, bytes);
  const { child, ended } = startPart(["digests", dir]);
  child.stdin.end(names);
  try {
    for await (const data of child.stdout) await context.down.write(data as Buffer);
    await ended;
  } finally {
    child.kill("SIGKILL");
  }
}

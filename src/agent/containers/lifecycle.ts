/** A container's life in this VM outside of migrations: made, started, removed. */
import { rm, rmdir } from "node:fs/promises";
import { MwarpError } from "../../errors.js";
import type { AgentParams } from "../../protocol/agent.js";
import type { ContainerSpec } from "../../protocol/container.js";
import { exists, readIfThere, writeAtomic } from "../files.js";
import type { Helper } from "../helper.js";
import { consoleArguments, endJob, jobStatus, startShim } from "../job.js";
import { log, timed } from "../log.js";
import { unmountBelow } from "../mounts.js";
import { containerPaths } from "../paths.js";
import { lastLines, pollUntil, run } from "../process.js";
import { runtimeArguments, runtimeLog, runtimeOf } from "../runtimes/runtime.js";
import { createBundle, mountRoot } from "./bundle.js";
import { killAll } from "./cgroup.js";
import { healthBegins } from "./health.js";
import { monotonicMs, newLife, saveLife } from "./life.js";
import { BRIDGE, createNetwork, removeNetwork, vethName } from "./network.js";
import { shimEnds } from "./shim.js";
import { claimName, freeName, heldBy, initPid, loadSpec } from "./store.js";
import { stdioOf } from "./terminal.js";
import { restVolumes, takeVolumes } from "./volumes.js";

const START_TIMEOUT_MS = 60_000;
/** Exit code of a container that could not be started again. */
const NOT_STARTED = 127;

/**
 * Makes all but the running process of a container whose name is claimed; the link stays down, the root unmounted.
 * @param whence see `takeVolumes`
 */
export async function createContainer(spec: ContainerSpec, whence: "here" | "elsewhere"): Promise<void> {
  await takeVolumes(spec, whence);
  await timed("bundle", () => createBundle(spec));
  await timed("network", () => createNetwork(spec));
}

/** Removes a container and everything made for it, in whatever state it is. @param volumes what becomes of its named ones */
export async function destroyContainer(name: string, helper: Helper, volumes: "go" | "stay"): Promise<void> {
  const paths = containerPaths(name);
  const spec = (await exists(paths.spec)) ? await loadSpec(name) : null;
  await killAll(paths.cgroup);
  if (spec !== null) await forget(spec, helper);
  await unmountBelow(paths.dir, helper);
  if (spec) await removeNetwork(spec);
  if (await exists(paths.cgroup)) await rmdir(paths.cgroup);
  if (volumes === "stay") await restVolumes(name);
  await freeName(name);
}

/** Has the runtime forget a container whose tasks have ended. */
async function forget({ name, runtime }: ContainerSpec, helper: Helper): Promise<void> {
  const state = runtimeOf(runtime).stateDir(name);
  if (!(await exists(state))) return;
  await run([runtime, "delete", "-f", name]);
  // What it could not remove, a killed restore left: the bind mount of the root, an unreadable state.
  await unmountBelow(state, helper);
  await rm(state, { recursive: true, force: true });
}

export async function runContainer(spec: ContainerSpec, helper: Helper): Promise<{ pid: number }> {
  await claimName(spec, { migration: null });
  try {
    await createContainer(spec, "here");
    await mountRoot(spec, helper);
    await helper.openFence(vethName(spec), BRIDGE);
    // On file before there is anything to check, so that an agent that is killed meanwhile leaves no container that nobody checks.
    await healthBegins(spec);
    const pid = await timed(`start of ${spec.name}`, () => start(spec));
    await saveLife(spec.name, newLife(monotonicMs()));
    await healthBegins(spec);
    return { pid };
  } catch (error) {
    await destroyContainer(spec.name, helper, "stay").catch((cleanup: unknown) =>
      log("error", `${spec.name}: left behind: ${String(cleanup)}`),
    );
    throw error;
  }
}

/**
 * Starts a container that has ended, with the files that it has. Its network is made anew: what it had set there it sets again.
 * `MWARP_E_RUNTIME` when its runtime cannot; it has ended with exit code 127 then, as where a shell finds no command.
 */
export async function startAgain(spec: ContainerSpec, helper: Helper): Promise<{ pid: number }> {
  const { pid, exit, job, cgroup } = containerPaths(spec.name);
  // One that an agent before this one began to start, and did not live to see.
  await endJob(job);
  await killAll(cgroup);
  await forget(spec, helper);
  await shimEnds(job);
  await removeNetwork(spec);
  for (const stale of [pid, exit]) await rm(stale, { force: true });
  try {
    await createNetwork(spec);
    await helper.openFence(vethName(spec), BRIDGE);
    return { pid: await timed(`restart of ${spec.name}`, () => start(spec)) };
  } catch (error) {
    await writeAtomic(exit, `${NOT_STARTED}\n`);
    throw error;
  }
}

async function start(spec: ContainerSpec): Promise<number> {
  const paths = containerPaths(spec.name);
  const stdio = stdioOf(spec);
  const argv = runtimeArguments(
    spec.runtime,
    paths.job,
    ...["run", "--detach", "--bundle", paths.bundle, "--pid-file", paths.pid],
    ...[...consoleArguments(stdio, paths.job), spec.name],
  );
  await startShim(paths.dir, paths.job, argv, { stdio });
  const status = await pollUntil(`starting ${spec.name}`, () => jobStatus(paths.job), {
    timeoutMs: START_TIMEOUT_MS,
  });
  if (status !== 0) {
    const details = [
      ...lastLines((await readIfThere(runtimeLog(paths.job))) ?? ""),
      ...lastLines((await readIfThere(paths.log)) ?? ""),
    ];
    throw new MwarpError(
      "MWARP_E_RUNTIME",
      `${spec.runtime} could not start ${spec.name} (exit code ${status})`,
      {
        details,
      },
    );
  }
  return Number((await readIfThere(paths.pid)) ?? 0);
}

/**
 * Removes a stopped container; with `force` a running one too. `MWARP_E_BUSY` while a migration has it,
 * `MWARP_E_CONTAINER_UNKNOWN` when the one of this name does not have the `id` asked for.
 */
export async function removeContainer(
  { name, force, id, volumes }: AgentParams<"container.remove">,
  helper: Helper,
): Promise<void> {
  const spec = await loadSpec(name);
  if (id !== undefined && spec.id !== id) {
    throw new MwarpError(
      "MWARP_E_CONTAINER_UNKNOWN",
      `container ${name} in this VM is ${spec.id}, not ${id}`,
    );
  }
  const migration = await heldBy(name);
  if (migration !== null) {
    throw new MwarpError("MWARP_E_BUSY", `migration ${migration} has container ${name}`);
  }
  if (!force && (await initPid(name)) !== null) {
    throw new MwarpError("MWARP_E_BUSY", `container ${name} is running`, {
      hint: "Stop it first, or use --force.",
    });
  }
  await destroyContainer(name, helper, volumes === true ? "go" : "stay");
}

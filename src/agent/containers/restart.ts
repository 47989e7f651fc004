/** Containers that end, by themselves or by hand, and what becomes of them. Each function is to be called with the container's turn. */
import { constants } from "node:os";
import * as z from "zod/mini";
import { MwarpError } from "../../errors.js";
import type { AgentParams, AgentResult } from "../../protocol/agent.js";
import type { ContainerSpec } from "../../protocol/container.js";
import { cutLine } from "../../protocol/words.js";
import { exists, isMissing, readNumber } from "../files.js";
import type { Helper } from "../helper.js";
import { endJob } from "../job.js";
import { log } from "../log.js";
import { containerPaths } from "../paths.js";
import { pollUntil } from "../process.js";
import { killAll } from "./cgroup.js";
import { healthBegins } from "./health.js";
import { type Life, loadLife, monotonicMs, newLife, saveLife } from "./life.js";
import { startAgain } from "./lifecycle.js";
import { movedBy } from "./moving.js";
import { begun, ended, starting, stopped } from "./restart-policy.js";
import { heldBy, initPid, loadSpec } from "./store.js";

/** From SIGKILL to an exit code on file. */
const END_TIMEOUT_MS = 10_000;

/** In how many ms there will be something to do about its end; null when there is nothing, as of a container that runs. */
export async function endDueIn(name: string): Promise<number | null> {
  const life = await loadLife(name);
  const over = life.phase === "starting" || (await exists(containerPaths(name).exit));
  if (!over || (await movedBy(name)) !== null) return null;
  if (life.phase !== "ended") return 0;
  return life.dueAt === null ? null : Math.max(0, life.dueAt - monotonicMs());
}

/**
 * Starts a container again that has ended, if its policy says so and the time has come.
 * @param tell of an end that nobody has seen before
 */
export async function attendEnd(
  name: string,
  helper: Helper,
  tell: (exitCode: number) => void,
): Promise<void> {
  const { dir, exit } = containerPaths(name);
  if (!(await exists(dir)) || (await movedBy(name)) !== null) return;
  const spec = await loadSpec(name);
  let life = await loadLife(name);
  // Whatever had come of it then: it is to be started.
  if (life.phase === "starting") return restart(spec, life, helper);
  const exitCode = await readNumber(exit);
  if (exitCode === null) return;
  if (life.phase === "begun") {
    life = ended(life, spec.restart, exitCode, monotonicMs());
    await saveLife(name, life);
    tell(exitCode);
  }
  if (life.dueAt !== null && life.dueAt <= monotonicMs()) await restart(spec, starting(life), helper);
}

/** One that cannot be started counts as one that has ended at once. */
async function restart(spec: ContainerSpec, life: Life, helper: Helper): Promise<void> {
  await saveLife(spec.name, life);
  let error: string | null = null;
  try {
    await startAgain(spec, helper);
  } catch (cause) {
    error = cutLine(cause instanceof Error ? cause.message : String(cause));
    log("warn", `${spec.name} is not started again: ${error}`);
  }
  await saveLife(spec.name, { ...begun(life, monotonicMs()), error });
  await healthBegins(spec);
  if (error === null) log("info", `${spec.name} was started again (${life.count})`);
}

/** `MWARP_E_BUSY` while a migration has it, `MWARP_E_USAGE` for a signal that there is not. */
export async function stopContainer({
  name,
  signal,
  graceMs,
}: AgentParams<"container.stop">): Promise<AgentResult<"container.stop">> {
  const spec = await loadSpec(name);
  await mustNotBeHeld(name);
  const first = signal ?? stopSignal(spec);
  if (!isSignal(first)) throw new MwarpError("MWARP_E_USAGE", `there is no signal ${first}`);
  const { exit, cgroup, job } = containerPaths(name);
  // On file before it gets the signal: whatever becomes of this agent, it is not started again.
  await saveLife(name, stopped(await loadLife(name)));
  // One that an agent before this one began to start, and did not live to see.
  await endJob(job);
  const init = await initPid(name);
  if (init !== null) {
    const exitCode = (timeoutMs: number): Promise<number> =>
      pollUntil(`the end of ${name}`, () => readNumber(exit), { timeoutMs, everyMs: 20 });
    try {
      process.kill(init, first);
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
    await exitCode(graceMs).catch(async () => {
      await killAll(cgroup);
      await exitCode(END_TIMEOUT_MS);
    });
  }
  await saveLife(name, { ...(await loadLife(name)), phase: "ended", dueAt: null });
  return { exitCode: await readNumber(exit) };
}

/** What an image says of it (image-spec, annotations.md). A number, or a name of no signal, is none. */
function stopSignal({ oci }: ContainerSpec): string {
  const annotations = z.record(z.string(), z.unknown()).safeParse(oci.annotations);
  const said = annotations.success ? annotations.data["org.opencontainers.image.stopSignal"] : undefined;
  return typeof said === "string" && isSignal(said) ? said : "SIGTERM";
}

const isSignal = (name: string): name is NodeJS.Signals => Object.hasOwn(constants.signals, name);

/** `MWARP_E_BUSY` while a migration has it, `MWARP_E_RUNTIME` when runc cannot start it. */
export async function startContainer(
  { name }: AgentParams<"container.start">,
  helper: Helper,
): Promise<AgentResult<"container.start">> {
  const spec = await loadSpec(name);
  await mustNotBeHeld(name);
  const running = await initPid(name);
  if (running !== null) return { pid: running };
  await saveLife(name, { ...newLife(monotonicMs()), phase: "starting" });
  try {
    const started = await startAgain(spec, helper);
    await saveLife(name, newLife(monotonicMs()));
    await healthBegins(spec);
    return started;
  } catch (error) {
    // Who asked is told, and asks again: no policy does.
    await saveLife(name, { ...newLife(monotonicMs()), phase: "ended" });
    throw error;
  }
}

async function mustNotBeHeld(name: string): Promise<void> {
  const migration = await heldBy(name);
  if (migration !== null)
    throw new MwarpError("MWARP_E_BUSY", `migration ${migration} has container ${name}`);
}

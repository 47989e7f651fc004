/** What a running container uses and holds, for preflight. Only looks. */
import { MwarpError } from "../../errors.js";
import type { AgentParams, AgentResult, Task } from "../../protocol/agent.js";
import type { ContainerSpec } from "../../protocol/container.js";
import {
  memoryBytes,
  memoryLimitBytes,
  sharedBytes,
  subgroups,
  swapBytes,
  tasksOf,
} from "../containers/cgroup.js";
import { heldBy, initPid, loadSpec } from "../containers/store.js";
import { readIfThere } from "../files.js";
import type { Helper } from "../helper.js";
import { containerPaths } from "../paths.js";
import { mountReasons } from "./container-mounts.js";
import { lookAtFiles } from "./layer.js";
import { inspectLoose } from "./loose-faults.js";
import { publishedPorts } from "./published-ports.js";
import { sharedFileReasons } from "./shared-files.js";
import { terminalShares } from "./terminals.js";
import { findUnsupported } from "./unsupported.js";

/** `MWARP_E_NOT_RUNNING`, `MWARP_E_BUSY`, `MWARP_E_CONTAINER_UNKNOWN`. */
export async function mustBeFree(name: string): Promise<ContainerSpec> {
  const spec = await loadSpec(name);
  const holder = await heldBy(name);
  if (holder !== null) throw new MwarpError("MWARP_E_BUSY", `migration ${holder} has container ${name}`);
  if ((await initPid(name)) === null) {
    throw new MwarpError("MWARP_E_NOT_RUNNING", `container ${name} does not run`);
  }
  return spec;
}

/** The errors of `mustBeFree`. What has nothing to do with each other is asked at the same time. */
export async function inspect(
  { name }: AgentParams<"source.inspect">,
  helper: Helper,
): Promise<AgentResult<"source.inspect">> {
  await mustBeFree(name);
  const { cgroup } = containerPaths(name);
  const spec = await loadSpec(name);
  const listed = tasksOf(cgroup);
  const [
    tasks,
    pages,
    memory,
    shared,
    swap,
    limit,
    files,
    groups,
    unsupported,
    mounts,
    inShared,
    published,
    loose,
    terminals,
  ] = await Promise.all([
    listed,
    listed.then(anonymousPages),
    memoryBytes(cgroup),
    sharedBytes(cgroup),
    swapBytes(cgroup),
    memoryLimitBytes(cgroup),
    lookAtFiles(spec),
    ownGroups(cgroup),
    listed.then((tasks) => findUnsupported(tasks, spec, helper)),
    listed.then((tasks) => mountReasons(tasks, spec)),
    listed.then((tasks) => sharedFileReasons(tasks, spec)),
    publishedPorts(spec.network),
    listed.then((tasks) => inspectLoose(tasks, spec)),
    listed.then((tasks) => terminalShares(tasks, spec)),
  ]);
  return {
    spec,
    tasks,
    anonymousBytes: pages.all,
    hugeBytes: pages.huge,
    memoryBytes: memory,
    swapBytes: swap,
    sharedBytes: shared,
    memoryLimitBytes: limit,
    writableLayerBytes: files.bytes,
    waitingPorts: loose.ports,
    unsupported: [
      ...groups,
      ...files.unsupported,
      ...unsupported,
      ...mounts,
      ...inShared,
      ...published,
      ...loose.faults,
      ...terminals.unsupported,
    ],
    needsLibrary: terminals.needsLibrary,
  };
}

/**
 * A container that makes groups of its own (systemd, another container manager) has processes that its group does not list, and
 * a freezer in each.
 */
async function ownGroups(cgroup: string): Promise<string[]> {
  const count = await subgroups(cgroup);
  return count === 0 ? [] : [`the container: ${count} control group${count === 1 ? "" : "s"} of its own`];
}

/** Bytes of anonymous memory, and of those in huge pages. What several tasks share counts in each. */
async function anonymousPages(tasks: readonly Task[]): Promise<{ all: number; huge: number }> {
  const rollups = await Promise.all(tasks.map(({ pid }) => readIfThere(`/proc/${pid}/smaps_rollup`)));
  const sum = (field: RegExp): number =>
    rollups.reduce((kib, rollup) => kib + Number(field.exec(rollup ?? "")?.[1] ?? 0), 0) * 1024;
  return { all: sum(/^Anonymous:\s+(\d+) kB$/m), huge: sum(/^AnonHugePages:\s+(\d+) kB$/m) };
}

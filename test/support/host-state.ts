/** What a lab could leave behind on the host, read from the kernel. */
import { readdirSync } from "node:fs";
import path from "node:path";
import { readProc } from "./processes.mjs";

/** Directory entries; none when the directory is not there. */
function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  }
}

/**
 * Everything that `lab down` must give back; two calls can be compared with toEqual. Only what belongs to the lab called
 * `lab`, so that other labs of the host may come and go meanwhile; huge pages only when there are none.
 */
export interface HostState {
  readonly namespaces: readonly string[];
  readonly links: readonly string[];
  readonly mounts: readonly string[];
  readonly temporary: readonly string[];
  readonly hugepages: readonly string[] | "shared with another lab";
}

export function hostState(lab: string): HostState {
  const named = (name: string): boolean => name.toLowerCase().includes(lab);
  const namespaces = list("/run/netns");
  const alone = namespaces.every((name) => named(name) || !name.startsWith("mwarp"));
  return {
    namespaces: namespaces.filter(named),
    links: list("/sys/class/net").filter((name) => /^(br0|tap-|mwarp)/.test(name)),
    mounts: readProc("/proc/self/mounts").split("\n").filter(named).sort(),
    temporary: ["/tmp", "/run", "/dev/shm", "/var/tmp"]
      .flatMap((directory) => list(directory).map((name) => path.join(directory, name)))
      .filter(named)
      .sort(),
    hugepages: alone ? hugepages() : "shared with another lab",
  };
}

/** `state` without what cannot be compared with `other`: the pool of huge pages, when another lab was up at either time. */
export const comparable = (state: HostState, other: HostState): HostState =>
  typeof other.hugepages === "string" ? { ...state, hugepages: other.hugepages } : state;

const hugepages = (): string[] =>
  list("/sys/kernel/mm/hugepages")
    .map((size) => `${size} ${readProc(`/sys/kernel/mm/hugepages/${size}/nr_hugepages`).trim()}`)
    .sort();

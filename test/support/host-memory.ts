/** Who holds which page of the VMs' memory files (invariants I2 and I4), and what else moves could leave in the host's memory. */
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { expect } from "vitest";
import { labFile } from "../../src/paths.js";
import { BackingReader, fileKey } from "../../src/vm/backing.js";
import { discoverMemory } from "../../src/vm/layout.js";
import { QmpClient } from "../../src/vm/qmp.js";
import { DaemonStatusSchema } from "./documents.js";
import type { TestLab } from "./lab.js";

interface Held {
  readonly vm: string;
  readonly file: string;
  readonly start: number;
  readonly end: number;
}

interface LabVm {
  readonly name: string;
  readonly pid: number;
  readonly qmpSocket: string;
}

export const labVms = (lab: TestLab): readonly LabVm[] =>
  (JSON.parse(readFileSync(labFile(lab.mwarp.env), "utf8")) as { vms: LabVm[] }).vms;

export const maxMapCount = (): number => Number(readFileSync("/proc/sys/vm/max_map_count", "utf8"));

/**
 * Fails unless every page of RAM is backed by a page of its own, in the lab's own memory files and no more of those than VMs:
 * nothing is mapped twice, nothing has leaked. Gives each VMM's number of mappings; fails when one is near the limit.
 */
export async function expectOnePagePerPage(lab: TestLab): Promise<Record<string, number>> {
  const vms = labVms(lab);
  const held: Held[] = [];
  const mappings: Record<string, number> = {};
  for (const { name, pid, qmpSocket } of vms) {
    using qmp = await QmpClient.open(qmpSocket);
    const backing = await discoverMemory(pid, qmp);
    if (backing.kind !== "shared-memfd") throw new Error(`${name}: ${backing.reason}`);
    const ram = new BackingReader(pid, backing.layout).read();
    let bytes = 0;
    for (let piece = 0; piece < ram.count; piece++) {
      const start = ram.offset[piece];
      held.push({
        vm: name,
        file: fileKey(ram.files[ram.file[piece]]),
        start,
        end: start + ram.bytes[piece],
      });
      bytes += ram.bytes[piece];
    }
    expect(bytes, `RAM of ${name} that is backed`).toBe(backing.layout.bytes);
    mappings[name] = mapsOf(pid).length;
  }
  expect(new Set(held.map(({ file }) => file)).size, "memory files").toBe(vms.length);
  held.sort((a, b) => a.file.localeCompare(b.file) || a.start - b.start);
  const twice = held.filter(
    (one, at) => at > 0 && held[at - 1].file === one.file && held[at - 1].end > one.start,
  );
  expect(twice, "pages mapped twice").toEqual([]);
  for (const [vm, count] of Object.entries(mappings))
    expect(count, `mappings of ${vm}`).toBeLessThan(maxMapCount());
  return mappings;
}

/** One mapping of guest RAM in a VMM, by its smaps. */
export interface RamMapping {
  readonly start: number;
  readonly end: number;
  readonly offset: number;
  readonly residentKib: number;
  /** Of that, what is mapped by huge page-table entries; of memory that is not hugetlb. */
  readonly hugeKib: number;
}

/** Mappings of RAM by VM. Neighbours that the kernel could not join are two, also when they belong together. */
export function ramMappings(lab: TestLab): Readonly<Record<string, readonly RamMapping[]>> {
  const found: Record<string, readonly RamMapping[]> = {};
  for (const { name, pid } of labVms(lab)) {
    const mappings = readFileSync(`/proc/${pid}/smaps`, "latin1").split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
    found[name] = mappings.flatMap((text) => {
      const [, start, end, offset, path] =
        /^([0-9a-f]+)-([0-9a-f]+) rw-s ([0-9a-f]+) \S+ \d+\s+(\S+)/.exec(text) ?? [];
      if (path === undefined || !isMemoryFile(path)) return [];
      const kib = (field: string): number =>
        Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(text)?.[1]);
      const [residentKib, hugeKib] = [kib("Rss"), kib("ShmemPmdMapped")];
      return {
        ...{ start: Number.parseInt(start, 16), end: Number.parseInt(end, 16) },
        ...{ offset: Number.parseInt(offset, 16), residentKib, hugeKib },
      };
    });
  }
  return found;
}

/** A VM's memory as maps and descriptors name it: a memfd, or a file in a VM's own file system, which is its root from outside. */
const isMemoryFile = (path: string): boolean =>
  path.startsWith("/memfd:") || path.includes("/qemu_back_mem.");

/** What one process has, beside the VMs' memory files. */
export interface ProcessMemory {
  /**
   * Private memory that cannot be executed, KiB. The rest is translated code: TCG's cache of it (-accel tcg,tb-size) fills up
   * for as long as a guest runs code that it has not run before, whether or not anything moves.
   */
  readonly anonymousKib: number;
  readonly pageTableKib: number;
  readonly descriptors: number;
  readonly mappings: number;
}

export interface HostMemory {
  /** Memory files that any of the processes maps or holds open, and what the host has allocated for them. */
  readonly files: number;
  readonly fileBytes: number;
  /** The daemon and the VMMs, by name. */
  readonly processes: Readonly<Record<string, ProcessMemory>>;
}

export async function hostMemory(lab: TestLab): Promise<HostMemory> {
  const daemon = await lab.mwarp.json(DaemonStatusSchema, ["daemon", "status"]);
  const vms = labVms(lab);
  const pids: [string, number][] = [
    ["daemon", daemon.pid],
    ...vms.map(({ name, pid }) => [name, pid] as [string, number]),
  ];
  const files = memoryFiles(pids.map(([, pid]) => pid));
  return {
    files: files.size,
    fileBytes: [...files.values()].reduce((sum, bytes) => sum + bytes, 0),
    processes: Object.fromEntries(pids.map(([name, pid]) => [name, processMemory(pid)])),
  };
}

/** What the host has allocated for the memory files of the lab's VMs, bytes. */
export const allocatedBytes = (lab: TestLab): number =>
  [...memoryFiles(labVms(lab).map(({ pid }) => pid)).values()].reduce((sum, bytes) => sum + bytes, 0);

const mapsOf = (pid: number): string[] => readFileSync(`/proc/${pid}/maps`, "utf8").trimEnd().split("\n");

function processMemory(pid: number): ProcessMemory {
  let anonymousKib = 0;
  let executable = false;
  for (const line of readFileSync(`/proc/${pid}/smaps`, "latin1").split("\n")) {
    const mapping = /^[0-9a-f]+-[0-9a-f]+ (\S+) /.exec(line);
    if (mapping !== null) executable = mapping[1].includes("x");
    else if (!executable && line.startsWith("Anonymous:")) anonymousKib += Number(/\d+/.exec(line));
  }
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return {
    anonymousKib,
    pageTableKib: Number(/^VmPTE:\s+(\d+) kB$/m.exec(status)?.[1]),
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    mappings: mapsOf(pid).length,
  };
}

/** Allocated bytes of each memory file that one of the processes maps or has open. */
function memoryFiles(pids: readonly number[]): Map<string, number> {
  const found = new Map<string, number>();
  const add = (file: string): void => {
    const { dev, ino, blocks } = statSync(file);
    found.set(`${dev}:${ino}`, blocks * 512);
  };
  for (const pid of pids) {
    const seen = new Set<string>();
    for (const line of mapsOf(pid)) {
      const [range, , , device, inode, name] = line.split(/ +/);
      if (name === undefined || !isMemoryFile(name) || seen.has(`${device} ${inode}`)) continue;
      seen.add(`${device} ${inode}`);
      add(`/proc/${pid}/map_files/${range}`);
    }
    for (const fd of readdirSync(`/proc/${pid}/fd`))
      if (isMemoryFile(linkTarget(`/proc/${pid}/fd/${fd}`))) add(`/proc/${pid}/fd/${fd}`);
  }
  return found;
}

/** Empty for a descriptor that was closed meanwhile. */
function linkTarget(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    return "";
  }
}

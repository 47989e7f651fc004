/**
 * Memory that a VM leaves behind when it ends (I4). After an exchange its memory file lives on for as long as another VM maps
 * a part of it, and with the file every frame in it; and a part of another VM's file may have been mapped by it alone. What
 * nobody maps any more is given back to the host.
 */
import { readdirSync, readlinkSync, statSync } from "node:fs";
import { MwarpError } from "../errors.js";
import { type BackingFile, BackingReader, fileKey } from "../vm/backing.js";
import { MapsReader, scanMaps } from "../vm/maps.js";
import type { MemoryLayout } from "../vm/types.js";
import { punchHole } from "./native.js";

/** A range of a file, bytes. */
export interface FileRange {
  readonly offset: number;
  readonly bytes: number;
}

interface LivingVm {
  readonly pid: number;
  readonly layout: MemoryLayout;
}

/** A memory file, and what the VMs we know have mapped of it. */
interface Candidate {
  readonly file: BackingFile;
  readonly mapped: FileRange[];
}

/**
 * Frees what no process maps of the memory files that VMs use. Nothing may be exchanged meanwhile. A file that a process
 * other than the VMs has open is left alone: it may be used by offset.
 * @returns bytes given back to the host
 * @throws MWARP_E_VM_UNREACHABLE when a VM ends while it is looked at; whatever keeps a process's maps from being read: a
 * mapping that is not seen would be torn out
 */
export function freeOrphanedMemory(vms: readonly LivingVm[]): number {
  const candidates = new Map<string, Candidate>();
  for (const vm of vms) addCandidates(candidates, vm);
  // Init holds no guest's memory, and hardened hosts let not even root look into it.
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && name !== "1");
  const known = new Set(vms.map(({ pid }) => String(pid)));
  for (const key of openMemoryFiles(pids.filter((pid) => !known.has(pid)))) candidates.delete(key);
  let freed = 0;
  for (const candidate of candidates.values()) freed += freeUnmapped(candidate, pids);
  return freed;
}

function addCandidates(candidates: Map<string, Candidate>, { pid, layout }: LivingVm): void {
  const backing = new BackingReader(pid, layout).read();
  for (let piece = 0; piece < backing.count; piece++) {
    const file = backing.files[backing.file[piece]];
    let candidate = candidates.get(fileKey(file));
    if (candidate === undefined) {
      candidate = { file, mapped: [] };
      candidates.set(fileKey(file), candidate);
    }
    candidate.mapped.push({ offset: backing.offset[piece], bytes: backing.bytes[piece] });
  }
}

function freeUnmapped({ file, mapped }: Candidate, pids: readonly string[]): number {
  const before = statSync(file.path);
  if (before.ino !== file.inode)
    throw new MwarpError("MWARP_E_INTERNAL", `${file.path} is not file ${fileKey(file)} any more`);
  if (gaps(mapped, before.size).length === 0) return 0;
  const others = pids.flatMap((pid) => mappedRanges(Number(pid), file));
  for (const { offset, bytes } of gaps([...mapped, ...others], before.size))
    punchHole(file.path, offset, bytes);
  return (before.blocks - statSync(file.path).blocks) * 512;
}

/** What lies between the ranges, in ascending order. */
export function gaps(ranges: readonly FileRange[], size: number): FileRange[] {
  const found: FileRange[] = [];
  let covered = 0;
  for (const { offset, bytes } of [...ranges].sort((a, b) => a.offset - b.offset)) {
    if (offset > covered) found.push({ offset: covered, bytes: Math.min(offset, size) - covered });
    covered = Math.max(covered, offset + bytes);
    if (covered >= size) return found;
  }
  if (covered < size) found.push({ offset: covered, bytes: size - covered });
  return found;
}

function mappedRanges(pid: number, file: BackingFile): FileRange[] {
  const ranges: FileRange[] = [];
  const text = present(() => new MapsReader(pid, 64 * 1024).read());
  if (text === null) return ranges;
  scanMaps(text, 0, Number.MAX_SAFE_INTEGER, (line) => {
    if (line.inode === file.inode && line.minor === file.minor && line.major === file.major)
      ranges.push({ offset: line.offset, bytes: line.end - line.start });
  });
  return ranges;
}

/** Keys of the memory files that some process has open. */
function* openMemoryFiles(pids: readonly string[]): Generator<string> {
  for (const pid of pids) {
    for (const fd of present(() => readdirSync(`/proc/${pid}/fd`)) ?? []) {
      const path = `/proc/${pid}/fd/${fd}`;
      if (present(() => readlinkSync(path))?.startsWith("/memfd:") !== true) continue;
      const stat = present(() => statSync(path));
      // dev_t as the kernel packs it for user space: 12 bits of major, 20 of minor in all.
      if (stat !== null)
        yield fileKey({ major: (stat.dev >>> 8) & 0xfff, minor: minorOf(stat.dev), inode: stat.ino });
    }
  }
}

const minorOf = (dev: number): number => (dev & 0xff) | ((dev >>> 12) & 0xfff00);

/** Null when the process or descriptor is gone by now: what is gone holds nothing. Any other failure hides what is there. */
function present<T>(look: () => T): T | null {
  try {
    return look();
  } catch (error) {
    if (GONE.has(codeOf(error) ?? codeOf((error as Error).cause) ?? "")) return null;
    throw error;
  }
}

const GONE: ReadonlySet<string> = new Set(["ENOENT", "ESRCH"]);

const codeOf = (error: unknown): string | undefined =>
  error instanceof Error && !(error instanceof MwarpError)
    ? (error as NodeJS.ErrnoException).code
    : undefined;

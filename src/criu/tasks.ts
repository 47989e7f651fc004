/** The tasks of a dump: pstree.img, with each task's mappings (mm-PID.img) and the pokes its threads need (core-TID.img). */
import { MwarpError } from "../errors.js";
import { pageOfAddress } from "./address.js";
import { CoreEntrySchema, MmEntrySchema, PstreeEntrySchema, type VmaEntry } from "./gen/task_pb.js";
import { decodeImage, decodeRecord, decodeSingle, imageError } from "./image.js";

/** A mapping of a task, in pages; `warpable` says whether its pages may be exchanged instead of copied. */
export interface Mapping {
  readonly page: number;
  readonly endPage: number;
  readonly warpable: boolean;
  /** Whether CRIU may map it at another place first, where a shadow stack takes a page more (to CRIU 4.1; later ones do not). */
  readonly premapped: "not" | "as it is" | "with a page more";
  /** Of which kind fresh memory must be that can take its place; null when it is not plain memory that is read and written. */
  readonly replaceable: Replaceable | null;
}

export interface Replaceable {
  /** Whether it counts as promised; not with MAP_NORESERVE. */
  readonly commit: "reserve" | "noreserve";
  /** What madvise(2) said of huge pages. */
  readonly advice: "default" | "asked" | "refused";
}

export interface DumpedTask {
  readonly nsPid: number;
  /** The task that it is restored from by fork; 0 for the first. */
  readonly parentPid: number;
  readonly threads: readonly number[];
  /** Ascending, without overlap; null for a task without memory (a zombie). */
  readonly mappings: readonly Mapping[] | null;
}

/** A u64 word to write into a task after the exchange; `valueHex` has 16 digits without prefix. */
export interface Poke {
  readonly nsPid: number;
  readonly address: number;
  readonly valueHex: string;
}

export type ImageFiles = ReadonlyMap<string, Uint8Array>;

/** status bits of a mapping (criu/include/image.h) */
const REGULAR = 1 << 0;
const ANON_PRIVATE = 1 << 9;
const HEAP = 1 << 5;
/** STACK. */
const STACK = 1 << 1;
const FILE_PRIVATE = 1 << 6;
const AIO_RING = 1 << 13;
const SHADOW_STACK = 1 << 15;
const EXT_PLUGIN = 1 << 27;
/** Entry of CRIU 4.2 for guard regions: lies inside other mappings and out of order. */
const GUARD = 1 << 16;
/** Whatever else a mapping is marked with (vdso, vvar, shadow stack, AIO ring, memfd, plugin ...) is left to the images. */
const WARPABLE_STATUS = REGULAR | ANON_PRIVATE | HEAP | STACK;

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MAP_HUGETLB = 0x40000;
/** Bits of a mapping's advice, 1 << the number of it (include/uapi/asm-generic/mman-common.h). */
const MADV_HUGEPAGE = 1n << 14n;
const MADV_NOHUGEPAGE = 1n << 15n;

export function isWarpable(vma: Pick<VmaEntry, "status" | "prot" | "flags">): boolean {
  const anonymous = (vma.status & REGULAR) !== 0 && (vma.status & ANON_PRIVATE) !== 0;
  const nothingElse = (vma.status & ~WARPABLE_STATUS) === 0;
  const writable = (vma.prot & PROT_WRITE) !== 0;
  return anonymous && nothingElse && writable && (vma.flags & (MAP_SHARED | MAP_HUGETLB)) === 0;
}

/** vma_entry_is_private and premap_priv_vmas (criu/include/vma.h, criu/mem.c). */
function isPremapped({ status, flags }: Pick<VmaEntry, "status" | "flags">): Mapping["premapped"] {
  if ((flags & MAP_HUGETLB) !== 0 || (status & EXT_PLUGIN) !== 0) return "not";
  if ((status & SHADOW_STACK) !== 0) return "with a page more";
  const regular = (status & REGULAR) !== 0 && (status & (ANON_PRIVATE | FILE_PRIVATE)) !== 0;
  return regular || (status & AIO_RING) !== 0 ? "as it is" : "not";
}

function replaceableBy(vma: Pick<VmaEntry, "status" | "prot" | "flags" | "madv">): Replaceable | null {
  if (!isWarpable(vma) || vma.prot !== (PROT_READ | PROT_WRITE)) return null;
  if ((vma.flags | MAP_NORESERVE) !== (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)) return null;
  const asked = (vma.madv & MADV_HUGEPAGE) === 0n ? "default" : "asked";
  return {
    commit: (vma.flags & MAP_NORESERVE) === 0 ? "reserve" : "noreserve",
    advice: (vma.madv & MADV_NOHUGEPAGE) === 0n ? asked : "refused",
  };
}

export function requireFile(files: ImageFiles, name: string): Uint8Array {
  const bytes = files.get(name);
  if (bytes === undefined) throw new MwarpError("MWARP_E_IMAGE", `${name} is missing from the dump`);
  return bytes;
}

/** All tasks of the dump, in the order of pstree.img; @throws MWARP_E_IMAGE. */
export function readTasks(files: ImageFiles): DumpedTask[] {
  const name = "pstree.img";
  const seen = new Set<number>();
  return decodeImage(name, "pstree", requireFile(files, name)).map((record) => {
    const { pid, ppid, threads } = decodeRecord(name, PstreeEntrySchema, record);
    if (pid === 0 || seen.has(pid)) throw imageError(name, `pid ${pid} twice or zero`);
    seen.add(pid);
    const mm = files.get(`mm-${pid}.img`);
    return {
      nsPid: pid,
      parentPid: ppid,
      threads,
      mappings: mm === undefined ? null : readMappings(`mm-${pid}.img`, mm),
    };
  });
}

function readMappings(name: string, bytes: Uint8Array): Mapping[] {
  const mappings: Mapping[] = [];
  let end = 0;
  for (const vma of decodeSingle(name, "mm", MmEntrySchema, bytes).vmas) {
    // vsyscall lies in the kernel's half and holds no pages of the task.
    if ((vma.status & GUARD) !== 0 || vma.start >= 1n << 63n) continue;
    const page = pageOfAddress(name, vma.start);
    const endPage = pageOfAddress(name, vma.end);
    if (page < end || endPage <= page) throw imageError(name, `mappings out of order at page ${page}`);
    end = endPage;
    mappings.push({
      page,
      endPage,
      warpable: isWarpable(vma),
      premapped: isPremapped(vma),
      replaceable: replaceableBy(vma),
    });
  }
  return mappings;
}

/** Offset of rseq_cs in struct rseq (linux/rseq.h). */
const RSEQ_CS_OFFSET = 8n;

/**
 * What CRIU writes into task memory during a restore and the exchange overwrites again with the source's bytes: rseq_cs
 * of threads that were stopped inside a restartable sequence which must not be restarted (restore_rseq_cs in
 * criu/cr-restore.c). On the source the parasite's run made the kernel clear it.
 */
export function readPokes(files: ImageFiles, tasks: readonly DumpedTask[]): Poke[] {
  return tasks.flatMap((task) =>
    task.mappings === null ? [] : task.threads.flatMap((tid) => pokesOfThread(files, task, tid)),
  );
}

function pokesOfThread(files: ImageFiles, task: DumpedTask, tid: number): Poke[] {
  const name = `core-${tid}.img`;
  const rseq = decodeSingle(name, "core", CoreEntrySchema, requireFile(files, name)).threadCore?.rseqEntry;
  if (rseq === undefined || rseq.rseqCsPointer === 0n || rseq.rseqAbiPointer === 0n) return [];
  const address = rseq.rseqAbiPointer + RSEQ_CS_OFFSET;
  pageOfAddress(name, address & ~0xfffn);
  return [
    {
      nsPid: task.nsPid,
      address: Number(address),
      valueHex: rseq.rseqCsPointer.toString(16).padStart(16, "0"),
    },
  ];
}

/** A guest made of bytes: RAM with real x86-64 page tables and a struct page array, and a kernel that can lie. */

import { byteCount, type Gpa, gpa, hva, PAGE_BYTES } from "../../../src/units.js";
import type { MemoryLayout } from "../../../src/vm/types.js";
import type {
  GuestView,
  PageTableLevels,
  PhysicalMemory,
  SourceView,
  StructPageFacts,
} from "../../../src/warp/physical-memory.js";

export const BIT = {
  present: 1n,
  writable: 2n,
  user: 4n,
  accessed: 1n << 5n,
  dirty: 1n << 6n,
  pageSize: 1n << 7n,
  global: 1n << 8n,
  noExecute: 1n << 63n,
} as const;
/** An anonymous page as a write fault leaves it. */
export const ANONYMOUS = BIT.present | BIT.writable | BIT.user | BIT.accessed | BIT.dirty | BIT.noExecute;
const TABLE = BIT.present | BIT.writable | BIT.user | BIT.accessed | BIT.dirty;

export const STRUCT_PAGE = {
  bytes: 64,
  compoundHeadOffset: 8,
  mappingOffset: 24,
  refcountOffset: 52,
} as const;
const TASK_STRUCT = { pidOffset: 1248, mmOffset: 1200, mmPgdOffset: 72 } as const;
/** Where in a task's page its mm_struct lies. */
const MM_AT = 2048;
const MAPPING = {
  anonymous: 0x8888_0000_1234_0001n,
  movable: 0x8888_0000_1234_0002n,
  ksm: 0x8888_0000_1234_0003n,
  file: 0x8888_0000_1234_0000n,
  none: 0n,
} as const;
const HVA_BASE = 0x7f00_0000_0000;

export class FakeGuest implements PhysicalMemory {
  readonly layout: MemoryLayout;
  readonly levels: PageTableLevels;
  readonly kernelRootGpa: number;
  readonly roots: { nsPid: number; pid: number; rootGpa: number; taskAddress: string }[] = [];
  readonly vmemmapBase: bigint;
  reads = 0;
  readonly #bytes: DataView;
  #nextTable: number;

  /** RAM from GPA 0 without holes; the last eighth is for page tables and struct pages. */
  constructor(options: { megabytes?: number; levels?: PageTableLevels; hostPageBytes?: number } = {}) {
    const bytes = (options.megabytes ?? 64) * 1024 * 1024;
    this.levels = options.levels ?? 4;
    this.vmemmapBase = this.levels === 5 ? 0xffd4_0000_0000_0000n : 0xffff_ea00_0000_0000n;
    this.#bytes = new DataView(new ArrayBuffer(bytes));
    this.layout = {
      regions: [{ gpa: gpa(0), hva: hva(HVA_BASE), bytes: byteCount(bytes) }],
      bytes: byteCount(bytes),
      hostPageBytes: byteCount(options.hostPageBytes ?? PAGE_BYTES),
    };
    this.#nextTable = (bytes / PAGE_BYTES / 8) * 7;
    this.kernelRootGpa = this.newTable() * PAGE_BYTES;
    this.#mapStructPages(bytes / PAGE_BYTES);
  }

  get facts(): StructPageFacts {
    return { vmemmapBase: this.vmemmapBase.toString(), ...STRUCT_PAGE };
  }

  get view(): GuestView {
    const { layout, levels, roots, kernelRootGpa } = this;
    const directMapBase = this.#directMap(0).toString();
    return { memory: this, layout, levels, roots, kernelRootGpa, directMapBase, taskStruct: TASK_STRUCT };
  }

  get sourceView(): SourceView {
    return { ...this.view, structPage: this.facts };
  }

  read(address: Gpa, into: Uint8Array): void {
    if (address + into.length > this.#bytes.byteLength) throw new RangeError("outside RAM");
    this.reads++;
    into.set(new Uint8Array(this.#bytes.buffer, address, into.length));
  }

  /** Frame number of a fresh, empty page. */
  newTable(): number {
    const frame = this.#nextTable++;
    if (frame * PAGE_BYTES >= this.#bytes.byteLength) throw new RangeError("no frame left for a table");
    return frame;
  }

  /** A new address space; answers with its root's GPA. Its task_struct and mm_struct share a page of their own. */
  task(nsPid: number): number {
    const rootGpa = this.newTable() * PAGE_BYTES;
    const task = this.newTable() * PAGE_BYTES;
    const pid = 1000 + nsPid;
    const page = Number(BigInt.asUintN(this.levels === 5 ? 57 : 48, this.#directMap(task)) >> 12n);
    this.map(this.kernelRootGpa, page, task / PAGE_BYTES, BIT.present | BIT.writable | BIT.global);
    this.roots.push({ nsPid, pid, rootGpa, taskAddress: this.#directMap(task).toString() });
    this.setTask(nsPid, { pid, mm: this.#directMap(task + MM_AT), pgd: this.#directMap(rootGpa) });
    return rootGpa;
  }

  /** What the kernel's own structures say of a task; what is not given stays. */
  setTask(nsPid: number, say: { pid?: number; mm?: bigint; pgd?: bigint }): void {
    const root = this.roots.find((candidate) => candidate.nsPid === nsPid)!;
    const task = Number(BigInt(root.taskAddress) - this.#directMap(0));
    if (say.pid !== undefined) this.#bytes.setUint32(task + TASK_STRUCT.pidOffset, say.pid, true);
    if (say.mm !== undefined) this.#bytes.setBigUint64(task + TASK_STRUCT.mmOffset, say.mm, true);
    if (say.pgd !== undefined)
      this.#bytes.setBigUint64(task + MM_AT + TASK_STRUCT.mmPgdOffset, say.pgd, true);
  }

  entryAt(tableFrame: number, index: number): bigint {
    return this.#bytes.getBigUint64(tableFrame * PAGE_BYTES + index * 8, true);
  }

  setEntry(tableFrame: number, index: number, entry: bigint): void {
    this.#bytes.setBigUint64(tableFrame * PAGE_BYTES + index * 8, entry, true);
  }

  /** Frame of the table that maps `page` at `level` (1 holds 4 KiB leaves), made when missing. */
  tableOf(rootGpa: number, page: number, level: number): number {
    let table = rootGpa / PAGE_BYTES;
    for (let at: number = this.levels; at > level; at--) {
      const index = indexAt(page, at);
      const entry = this.entryAt(table, index);
      if ((entry & BIT.present) === 0n) {
        const made = this.newTable();
        this.setEntry(table, index, BigInt(made * PAGE_BYTES) | TABLE);
        table = made;
      } else table = Number((entry >> 12n) & 0xff_ffff_ffffn);
    }
    return table;
  }

  /** Maps one leaf: level 1 is 4 KiB, 2 is 2 MiB, 3 is 1 GiB. */
  map(rootGpa: number, page: number, frame: number, flags: bigint = ANONYMOUS, level = 1): void {
    const size = level === 1 ? 0n : BIT.pageSize;
    const entry = (BigInt(frame) * BigInt(PAGE_BYTES)) | flags | size;
    this.setEntry(this.tableOf(rootGpa, page, level), indexAt(page, level), entry);
  }

  /** Struct page of a small folio, or of the head of a large one. */
  setHead(frame: number, references: number, mapping: keyof typeof MAPPING = "anonymous"): void {
    const at = this.#structPage(frame);
    this.#bytes.setBigUint64(at + STRUCT_PAGE.compoundHeadOffset, 0xffff_8880_0000_1000n, true);
    this.#bytes.setBigUint64(at + STRUCT_PAGE.mappingOffset, MAPPING[mapping], true);
    this.#bytes.setInt32(at + STRUCT_PAGE.refcountOffset, references, true);
  }

  setTail(frame: number, head: number): void {
    this.setTailWord(frame, this.vmemmapBase + BigInt(head * STRUCT_PAGE.bytes) + 1n);
  }

  setTailWord(frame: number, word: bigint): void {
    this.#bytes.setBigUint64(this.#structPage(frame) + STRUCT_PAGE.compoundHeadOffset, word, true);
  }

  /** A folio of 512 frames with `references`. */
  setHugeFolio(head: number, references: number, mapping: keyof typeof MAPPING = "anonymous"): void {
    this.setHead(head, references, mapping);
    for (let frame = head + 1; frame < head + 512; frame++) this.setTail(frame, head);
  }

  #vmemmapFrame = 0;

  /** Where the kernel maps a physical address. */
  #directMap(address: number): bigint {
    return (this.levels === 5 ? 0xff11_0000_0000_0000n : 0xffff_8880_0000_0000n) + BigInt(address);
  }

  #structPage(frame: number): number {
    return this.#vmemmapFrame * PAGE_BYTES + frame * STRUCT_PAGE.bytes;
  }

  #mapStructPages(frames: number): void {
    const pages = Math.ceil((frames * STRUCT_PAGE.bytes) / PAGE_BYTES);
    const first = Number(BigInt.asUintN(this.levels === 5 ? 57 : 48, this.vmemmapBase) >> 12n);
    this.#vmemmapFrame = this.#nextTable;
    this.#nextTable += pages;
    for (let page = 0; page < pages; page++) {
      const flags = BIT.present | BIT.writable | BIT.global;
      this.map(this.kernelRootGpa, first + page, this.#vmemmapFrame + page, flags);
    }
  }
}

function indexAt(page: number, level: number): number {
  return Math.floor(page / 512 ** (level - 1)) % 512;
}

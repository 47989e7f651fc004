/** Makes CRIU images for tests, with the product's framing and messages. */
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { PagemapEntrySchema, PagemapHeadSchema } from "../../../src/criu/gen/pagemap_pb.js";
import { CoreEntrySchema, MmEntrySchema, PstreeEntrySchema } from "../../../src/criu/gen/task_pb.js";
import { encodeImage } from "../../../src/criu/image.js";
import type { PageRun } from "../../../src/protocol/agent.js";

export const PAGE = 4096;

const message = <D extends DescMessage>(schema: D, init: MessageInitShape<D>): Uint8Array =>
  toBinary(schema, create(schema, init));

export const mapping = {
  data: { status: 0x201, prot: 3, flags: 0x22 },
  heap: { status: 0x221, prot: 3, flags: 0x22 },
  stack: { status: 0x201, prot: 3, flags: 0x122 },
  readOnly: { status: 0x201, prot: 1, flags: 0x22 },
  vdso: { status: 0x209, prot: 5, flags: 0x22 },
  filePrivate: { status: 0x41, prot: 3, flags: 0x2 },
  hugetlb: { status: 0x201, prot: 3, flags: 0x40022 },
  shadowStack: { status: 0x8201, prot: 3, flags: 0x22 },
  shared: { status: 0x101, prot: 3, flags: 0x21 },
} as const;
export type MappingKind = keyof typeof mapping;

export interface TestMapping {
  page: number;
  pages: number;
  kind: MappingKind;
}
export interface TestEntry {
  page: number;
  pages: number;
  flags: number;
}
export interface TestTask {
  pid: number;
  threads?: number[];
  mappings: TestMapping[];
  entries: TestEntry[];
  rseq?: { tid: number; abi: bigint; cs: bigint }[];
}

/** The byte every page of a task is filled with, so that a page in the wrong place shows. */
export const pageByte = (pid: number, page: number): number => (pid * 31 + page * 7 + 1) & 0xff;

export function pagesOf(pid: number, runs: readonly { page: number; pages: number }[]): Uint8Array {
  const bytes = new Uint8Array(runs.reduce((sum, run) => sum + run.pages, 0) * PAGE);
  let at = 0;
  for (const { page, pages } of runs) {
    for (let i = 0; i < pages; i++, at += PAGE) bytes.fill(pageByte(pid, page + i), at, at + PAGE);
  }
  return bytes;
}

export const readFromTask = async (runs: PageRun[]): Promise<Uint8Array> =>
  Buffer.concat(runs.map((run) => pagesOf(run.nsPid, [run])));

export function pagemapImage(pagesId: number, entries: readonly TestEntry[]): Uint8Array {
  return encodeImage("pagemap", [
    message(PagemapHeadSchema, { pagesId }),
    ...entries.map(({ page, pages, flags }) =>
      message(PagemapEntrySchema, { vaddr: BigInt(page * PAGE), compatNrPages: pages, flags }),
    ),
  ]);
}

/** A dump of `tasks` as CRIU writes it; pages files are numbered in the order of the tasks. */
export function dump(tasks: readonly TestTask[]): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  files.set(
    "pstree.img",
    encodeImage(
      "pstree",
      tasks.map(({ pid, threads }) =>
        message(PstreeEntrySchema, { pid, ppid: 0, threads: threads ?? [pid] }),
      ),
    ),
  );
  tasks.forEach((task, i) => {
    const { pid } = task;
    const vmas = task.mappings.map(({ page, pages, kind }) => ({
      start: BigInt(page * PAGE),
      end: BigInt((page + pages) * PAGE),
      ...mapping[kind],
    }));
    files.set(`mm-${pid}.img`, encodeImage("mm", [message(MmEntrySchema, { vmas })]));
    files.set(`pagemap-${pid}.img`, pagemapImage(i + 1, task.entries));
    files.set(
      `pages-${i + 1}.img`,
      pagesOf(
        pid,
        task.entries.filter((entry) => (entry.flags & 4) !== 0),
      ),
    );
    for (const tid of task.threads ?? [pid]) {
      const rseq = task.rseq?.find((one) => one.tid === tid);
      const rseqEntry = rseq && { rseqAbiPointer: rseq.abi, rseqCsPointer: rseq.cs };
      files.set(
        `core-${tid}.img`,
        encodeImage("core", [message(CoreEntrySchema, { threadCore: { ...(rseqEntry && { rseqEntry }) } })]),
      );
    }
  });
  return files;
}

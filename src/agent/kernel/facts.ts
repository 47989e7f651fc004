/** What the host must know of this guest's kernel to read its page tables. Worked out once per boot, then kept on file. */
import { readFile } from "node:fs/promises";
import * as z from "zod/mini";
import { isMwarpError, MwarpError } from "../../errors.js";
import { readIfThere, writeAtomic } from "../files.js";
import { log, timed } from "../log.js";
import { KERNEL_FACTS } from "../paths.js";
import { Kcore } from "./kcore.js";
import { type LayoutRequest, type Layouts, readLayouts } from "./layouts.js";
import { readSymbols } from "./symbols.js";
import { type TcpLayout, TcpLayoutSchema, tcpLayout, tcpRequests } from "./tcp-layout.js";

const requests: readonly LayoutRequest[] = [
  "task_struct:tasks,pid,mm",
  "mm_struct:pgd",
  "page:flags,compound_head,mapping,_refcount",
];

const FactsSchema = z.object({
  bootId: z.string(),
  /** Kernel virtual addresses as decimal strings: they do not fit a number. */
  initTask: z.string(),
  directMapBase: z.string(),
  vmemmapBase: z.string(),
  kernelRootGpa: z.int(),
  taskStruct: z.object({ tasks: z.int(), pid: z.int(), mm: z.int() }),
  mmPgd: z.int(),
  page: z.object({
    bytes: z.int(),
    flags: z.int(),
    compoundHead: z.int(),
    mapping: z.int(),
    refcount: z.int(),
  }),
  /** Null when its structures are not as mWarp knows them. Nobody relies on it before it was tried (tcp-trial.ts). */
  tcp: z.nullable(TcpLayoutSchema),
});
export type KernelFacts = z.infer<typeof FactsSchema>;

export const readBootId = async (): Promise<string> =>
  (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();

let known: Promise<KernelFacts> | null = null;

/** The facts; the first call does the work, or finds it done earlier in this boot. */
export function kernelFacts(): Promise<KernelFacts> {
  known ??= load().catch((error: unknown) => {
    known = null;
    throw error;
  });
  return known;
}

async function load(): Promise<KernelFacts> {
  const bootId = await readBootId();
  const kept = await readIfThere(KERNEL_FACTS);
  if (kept !== null) {
    const facts = FactsSchema.safeParse(JSON.parse(kept));
    if (facts.success && facts.data.bootId === bootId) return facts.data;
  }
  const facts = await timed("kernel facts", () => gather(bootId));
  await writeAtomic(KERNEL_FACTS, JSON.stringify(facts));
  return facts;
}

async function gather(bootId: string): Promise<KernelFacts> {
  const symbols = await timed("kallsyms", () =>
    readSymbols(["page_offset_base", "vmemmap_base", "init_task", "init_top_pgt"]),
  );
  const layouts = await timed("BTF", () => readLayouts([...requests, ...tcpRequests]));
  const address = (name: string): bigint => symbols.get(name) as bigint;
  const pid = layouts.offset("task_struct", "pid");
  const kcore = new Kcore();
  try {
    const directMapBase = kcore.readWord(address("page_offset_base"));
    const inDirectMap = kcore.segments.some((s) => s.paddr !== null && s.vaddr - s.paddr === directMapBase);
    if (!inDirectMap)
      throw new MwarpError("MWARP_E_UNSUPPORTED", "/proc/kcore and page_offset_base disagree");
    const initTask = address("init_task");
    if (kcore.read(initTask + BigInt(pid), 4).readInt32LE(0) !== 0) {
      throw new MwarpError("MWARP_E_UNSUPPORTED", "init_task does not look like one");
    }
    log("info", `direct map at ${directMapBase.toString(16)}, init_task at ${initTask.toString(16)}`);
    return {
      bootId,
      initTask: String(initTask),
      directMapBase: String(directMapBase),
      vmemmapBase: String(kcore.readWord(address("vmemmap_base"))),
      kernelRootGpa: Number(kcore.physical(address("init_top_pgt"))),
      taskStruct: {
        tasks: layouts.offset("task_struct", "tasks"),
        pid,
        mm: layouts.offset("task_struct", "mm"),
      },
      mmPgd: layouts.offset("mm_struct", "pgd"),
      page: {
        bytes: layouts.bytes("page"),
        flags: layouts.offset("page", "flags"),
        compoundHead: layouts.offset("page", "compound_head"),
        mapping: layouts.offset("page", "mapping"),
        refcount: layouts.offset("page", "_refcount"),
      },
      tcp: knownTcp(layouts),
    };
  } finally {
    kcore.close();
  }
}

/** Containers move without, but for connections that nobody has accepted. */
function knownTcp(layouts: Layouts): TcpLayout | null {
  try {
    return tcpLayout(layouts);
  } catch (error) {
    if (!isMwarpError(error, "MWARP_E_UNSUPPORTED")) throw error;
    log("warn", `connections that no task has cannot be read: ${error.message}`);
    return null;
  }
}

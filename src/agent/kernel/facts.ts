/** What the host must know of this guest's kernel to read its page tables. Worked out once per boot, then kept on file. */
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import * as z from "zod/mini";
import { MwarpError } from "../../errors.js";
import { readIfThere, writeAtomic } from "../files.js";
import { log, timed } from "../log.js";
import { KERNEL_FACTS } from "../paths.js";
import { Btf } from "./btf.js";
import { Kcore } from "./kcore.js";
import { readSymbols } from "./symbols.js";

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
  const btf = await timed("BTF", async () => new Btf(readFileSync("/sys/kernel/btf/vmlinux")));
  const task = btf.layout("task_struct", ["tasks", "pid", "mm"]).offsets;
  const mm = btf.layout("mm_struct", ["pgd"]).offsets;
  const page = btf.layout("page", ["flags", "compound_head", "mapping", "_refcount"]);
  const address = (name: string): bigint => symbols.get(name) as bigint;
  const kcore = new Kcore();
  try {
    const directMapBase = kcore.readWord(address("page_offset_base"));
    const inDirectMap = kcore.segments.some((s) => s.paddr !== null && s.vaddr - s.paddr === directMapBase);
    if (!inDirectMap)
      throw new MwarpError("MWARP_E_UNSUPPORTED", "/proc/kcore and page_offset_base disagree");
    const initTask = address("init_task");
    if (kcore.read(initTask + BigInt(task.pid as number), 4).readInt32LE(0) !== 0) {
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
        tasks: task.tasks as number,
        pid: task.pid as number,
        mm: task.mm as number,
      },
      mmPgd: mm.pgd as number,
      page: {
        bytes: page.bytes,
        flags: page.offsets.flags as number,
        compoundHead: page.offsets.compound_head as number,
        mapping: page.offsets.mapping as number,
        refcount: page.offsets._refcount as number,
      },
    };
  } finally {
    kcore.close();
  }
}

/**
 * The costs of this host: measured at first use, kept in the state directory, measured anew when the file is damaged or the
 * host is another. Done by processes and threads of its own; whoever plans an exchange awaits it before anything is frozen.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release } from "node:os";
import path from "node:path";
import * as z from "zod/mini";
import { toMwarpError } from "../errors.js";
import {
  COSTS_VERSION,
  type CostFile,
  CostFileSchema,
  type CostHost,
  memoryKinds,
} from "../protocol/costs.js";
import { type CostModel, DEFAULT_COSTS } from "./cost-model.js";

/** Takes a second on an idle machine. When it does not end, what is built in holds. */
const MEASURE_MS = 15_000;
/** 2 MiB pages that a measurement takes. */
const HUGE_PAGES = 32;

export interface CostParts {
  /** How this host is told from another. */
  describe(): CostHost;
  /** Whether others want more processors than there are. */
  isBusy(): boolean;
  /** Whether there are 2 MiB pages to measure with. */
  hasHugePages(): boolean;
  measure(signal: AbortSignal): Promise<CostFile["costs"]>;
}

interface CostLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export class HostCosts {
  readonly #file: string;
  readonly #parts: CostParts;
  readonly #log: CostLog;
  readonly #closing = new AbortController();
  /** Whether this process has measured with huge pages in the pool: when they were gone by then, that is that. */
  #triedHugePages = false;
  #measuring: Promise<CostFile["costs"] | null> | null = null;

  constructor(file: string, parts: CostParts, log: CostLog) {
    this.#file = file;
    this.#parts = parts;
    this.#log = log;
  }

  /** From the file when it is this host's, else measured, once for all who ask meanwhile. Never rejects. */
  async current(): Promise<CostModel> {
    try {
      const kept = this.#read();
      if (kept !== null) return complete(kept.costs);
    } catch (error) {
      this.#log.warn({ err: error }, "this host cannot be told from another; built-in exchange costs hold");
      return DEFAULT_COSTS;
    }
    this.#measuring ??= this.#measure().finally(() => {
      this.#measuring = null;
    });
    return complete(await this.#measuring);
  }

  /** Ends a measurement under way; whoever waits for it gets the built-in costs. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#measuring;
  }

  /** Null when there is none that holds for this host; why not, is logged. */
  #read(): CostFile | null {
    const again = (why: string): null => {
      if (this.#measuring === null) this.#log.info({ file: this.#file, why }, "exchange costs are measured");
      return null;
    };
    let text: string;
    try {
      text = readFileSync(this.#file, "utf8");
    } catch (error) {
      return again((error as NodeJS.ErrnoException).code === "ENOENT" ? "first use" : String(error));
    }
    const parsed = parse(text);
    if (typeof parsed === "string") return again(`the file is damaged or of another version: ${parsed}`);
    const changed = difference(parsed.host, this.#parts.describe());
    if (changed !== null) return again(`the host has changed: ${changed}`);
    if (parsed.busy && !this.#parts.isBusy()) return again("the host was busy then, and is not now");
    const hugePages = parsed.costs.hugetlb === null && !this.#triedHugePages && this.#parts.hasHugePages();
    return hugePages ? again("there are huge pages now") : parsed;
  }

  async #measure(): Promise<CostFile["costs"] | null> {
    try {
      const start = performance.now();
      const busy = this.#parts.isBusy();
      this.#triedHugePages = this.#parts.hasHugePages();
      const costs = await this.#parts.measure(
        AbortSignal.any([AbortSignal.timeout(MEASURE_MS), this.#closing.signal]),
      );
      const file: CostFile = {
        version: COSTS_VERSION,
        measured_at: new Date().toISOString(),
        time_ms: Math.round(performance.now() - start),
        host: this.#parts.describe(),
        busy,
        // What no schema would read again is not kept either.
        costs: z.parse(CostFileSchema.shape.costs, costs),
      };
      this.#log.info({ costs: file.costs, time_ms: file.time_ms }, "exchange costs measured");
      this.#keep(file);
      return file.costs;
    } catch (error) {
      this.#log.warn({ err: toMwarpError(error) }, "exchange costs cannot be measured; built-in ones hold");
      return null;
    }
  }

  /** A reader sees the old file or the new one. */
  #keep(file: CostFile): void {
    const draft = `${this.#file}.${process.pid}.new`;
    try {
      mkdirSync(path.dirname(this.#file), { recursive: true, mode: 0o750 });
      writeFileSync(draft, `${JSON.stringify(file)}\n`, { mode: 0o644 });
      renameSync(draft, this.#file);
    } catch (error) {
      this.#log.warn({ err: error }, "exchange costs cannot be kept; they are measured again next time");
    }
  }
}

/** Or what is wrong with it. */
function parse(text: string): CostFile | string {
  try {
    return z.parse(CostFileSchema, JSON.parse(text));
  } catch (error) {
    return error instanceof z.core.$ZodError ? z.prettifyError(error) : String(error);
  }
}

function difference(kept: CostHost, now: CostHost): string | null {
  for (const key of ["kernel", "cpu", "processors", "shmem_huge"] as const)
    if (kept[key] !== now[key]) return `${key} was ${kept[key]}, is ${now[key]}`;
  return null;
}

/** What could not be measured is as it is built in. */
function complete(costs: CostFile["costs"] | null): CostModel {
  const model = { ...DEFAULT_COSTS };
  for (const kind of memoryKinds) model[kind] = costs?.[kind] ?? DEFAULT_COSTS[kind];
  return model;
}

export function describeHost(): CostHost {
  const processors = cpus();
  return {
    kernel: release(),
    cpu: processors[0]?.model ?? "unknown",
    processors: processors.length,
    shmem_huge: readSetting("/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
  };
}

/** By the load of the last minute. */
export const isHostBusy = (): boolean => loadavg()[0] > availableParallelism();

/** Those that are reserved for somebody are free only by name. */
export function hasFreeHugePages(): boolean {
  const pool = (name: string): number =>
    Number(readSetting(`/sys/kernel/mm/hugepages/hugepages-2048kB/${name}`));
  return pool("free_hugepages") - pool("resv_hugepages") >= HUGE_PAGES;
}

/** The chosen word of a list, or all of it; "absent" where the kernel has no such setting. */
function readSetting(file: string): string {
  let text: string;
  try {
    text = readFileSync(file, "utf8").trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "absent";
    throw error;
  }
  return /\[(\w+)\]/.exec(text)?.[1] ?? text;
}

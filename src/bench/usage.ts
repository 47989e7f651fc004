/**
 * What a migration costs the host: processor time and memory of both VMMs and the daemon. Read from /proc a few times a second:
 * a look at a VMM's memory walks its page tables and holds its address space meanwhile, so it must stay rare.
 */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { MwarpError } from "../errors.js";
import type { Usage } from "./records.js";

const INTERVAL_MS = 250;
/** USER_HZ: what /proc counts processor time in, on every x86 kernel. */
const TICK_MS = 10;

/** Pids of those who work on a migration. */
export interface Watched {
  readonly source_vmm: number;
  readonly destination_vmm: number;
  readonly daemon: number;
}

/** The two questions; tests answer them themselves. */
export interface UsageReader {
  /** User and system time of a process with all its threads, ms. */
  cpuMs(pid: number): Promise<number>;
  pssBytes(pid: number): Promise<number>;
}

export const procReader: UsageReader = {
  cpuMs: async (pid) => parseCpuMs(await read(`/proc/${pid}/stat`)),
  pssBytes: async (pid) => parsePss(await read(`/proc/${pid}/smaps_rollup`)),
};

async function read(file: string): Promise<string> {
  try {
    return await readFile(file, "latin1");
  } catch (cause) {
    throw new MwarpError("MWARP_E_VM_UNREACHABLE", `${file} cannot be read: its process has ended`, {
      cause,
    });
  }
}

/** utime and stime: fields 14 and 15, counted after the command name, which may itself hold spaces and parentheses. */
export function parseCpuMs(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

/**
 * Bytes of a smaps_rollup. The kernel counts pages of hugetlb apart from Pss (Documentation/filesystems/proc.rst): those mapped
 * here alone count whole, those mapped by both VMMs half.
 */
export function parsePss(rollup: string): number {
  const kib = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(rollup)?.[1] ?? 0);
  return (kib("Pss") + kib("Private_Hugetlb") + kib("Shared_Hugetlb") / 2) * 1024;
}

/** From `begin` to `end`. When it goes out of scope before that, it only stops. */
export class UsageSampler implements Disposable {
  readonly #watched: Watched;
  readonly #reader: UsageReader;
  readonly #cpuBefore: Usage["cpu_ms"];
  readonly #pssBefore: number;
  #peak: number;
  readonly #stop = new AbortController();
  #failure: unknown;
  readonly #sampling: Promise<void>;

  private constructor(
    watched: Watched,
    reader: UsageReader,
    cpu: Usage["cpu_ms"],
    pss: number,
    intervalMs: number,
  ) {
    this.#watched = watched;
    this.#reader = reader;
    this.#cpuBefore = cpu;
    this.#pssBefore = this.#peak = pss;
    this.#sampling = this.#sample(intervalMs);
  }

  static async begin(watched: Watched, reader = procReader, intervalMs = INTERVAL_MS): Promise<UsageSampler> {
    const pss = await pssOf(watched, reader);
    return new UsageSampler(watched, reader, await cpuOf(watched, reader), pss, intervalMs);
  }

  /** @throws MWARP_E_VM_UNREACHABLE when one of them has ended */
  async end(): Promise<Usage> {
    const after = await cpuOf(this.#watched, this.#reader);
    await this.#take();
    this.#stop.abort();
    await this.#sampling;
    if (this.#failure !== undefined) throw this.#failure;
    const before = this.#cpuBefore;
    return {
      cpu_ms: {
        source_vmm: after.source_vmm - before.source_vmm,
        destination_vmm: after.destination_vmm - before.destination_vmm,
        daemon: after.daemon - before.daemon,
      },
      pss: { before: this.#pssBefore, peak: this.#peak },
    };
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
  }

  async #sample(intervalMs: number): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await sleep(intervalMs, undefined, { signal });
        await this.#take();
      } catch (error) {
        if (signal.aborted) return;
        // Said by `end`: whoever measures is busy with the migration now.
        this.#failure = error;
        return;
      }
    }
  }

  async #take(): Promise<void> {
    this.#peak = Math.max(this.#peak, await pssOf(this.#watched, this.#reader));
  }
}

async function cpuOf(watched: Watched, reader: UsageReader): Promise<Usage["cpu_ms"]> {
  const [source_vmm, destination_vmm, daemon] = await Promise.all([
    reader.cpuMs(watched.source_vmm),
    reader.cpuMs(watched.destination_vmm),
    reader.cpuMs(watched.daemon),
  ]);
  return { source_vmm, destination_vmm, daemon };
}

async function pssOf(watched: Watched, reader: UsageReader): Promise<number> {
  const all = await Promise.all(Object.values(watched).map((pid: number) => reader.pssBytes(pid)));
  return Math.round(all.reduce((sum, one) => sum + one, 0));
}

/** 2 MiB pages of the host for the lab's VMs: remapping a gigabyte takes milliseconds with them, seconds without. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { MwarpError } from "../errors.js";
import { withLock } from "../lock.js";
import { HUGE_BYTES } from "../units.js";
import type { LabSettings } from "./options.js";

const POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB";
/** What must stay free of the host's memory for `auto` to take any. */
const SPARE_BYTES = 4 * 1024 ** 3;

const readNumber = (name: string): number => Number(readFileSync(`${POOL}/${name}`, "utf8"));

/**
 * Pages of the pool but for surplus ones: those are still in use by somebody after their pool was made smaller, and a write of
 * a number that counts them would keep them for ever (Documentation/admin-guide/mm/hugetlbpage.rst).
 */
const persistentPages = (): number => readNumber("nr_hugepages") - readNumber("surplus_hugepages");

/** MemAvailable of the host, bytes. */
export function availableBytes(): number {
  const match = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"));
  if (match === null) throw new MwarpError("MWARP_E_LAB", "/proc/meminfo has no MemAvailable");
  return Number(match[1]) * 1024;
}

export interface HugepagePlan {
  readonly use: boolean;
  readonly reason: string;
  /** 2 MiB pages to add to the pool; 0 when the pool's own are used. */
  readonly pages: number;
  /** Pages in the pool now, surplus ones apart. */
  readonly before: number;
}

interface HostMemory {
  readonly available: number;
  /** Null when the kernel has no 2 MiB pages. */
  readonly pool: {
    readonly total: number;
    readonly surplus: number;
    readonly free: number;
    readonly reserved: number;
  } | null;
}

export function readHostMemory(): HostMemory {
  if (!existsSync(POOL)) return { available: availableBytes(), pool: null };
  const pool = {
    total: persistentPages(),
    surplus: readNumber("surplus_hugepages"),
    free: readNumber("free_hugepages"),
    reserved: readNumber("resv_hugepages"),
  };
  return { available: availableBytes(), pool };
}

/**
 * Decides whether the VMs get pages of the pool.
 * @throws MWARP_E_LAB when they were asked for (`hugetlb`) and the host cannot give them.
 */
export function planHugepages(
  settings: Pick<LabSettings, "backing">,
  neededBytes: number,
  host: HostMemory,
): HugepagePlan {
  const before = host.pool?.total ?? 0;
  const no = (reason: string): HugepagePlan => ({ use: false, reason, pages: 0, before });
  const { backing } = settings;
  if (backing === "4k" || backing === "thp") return no("asked for");
  const refuse = (reason: string): HugepagePlan => {
    if (backing === "auto") return no(reason);
    throw new MwarpError("MWARP_E_LAB", `no 2 MiB pages: ${reason}`, {
      hint: "Use fewer or smaller VMs, or --backing auto.",
    });
  };
  if (host.pool === null) return refuse("the host kernel has none");
  const needed = Math.ceil(neededBytes / HUGE_BYTES);
  const spare = backing === "auto" ? SPARE_BYTES : 0;
  const reason = `${needed} pages of 2 MiB for the VMs`;
  // A pool that grows takes surplus pages in first. They are in use, so they come on top; what is released later has them too.
  const pages = needed + host.pool.surplus;
  if (host.available >= neededBytes + spare) return { use: true, reason, pages, before };
  // Pages of the pool that look free may be what another lab has just reserved: they come second.
  if (host.pool.free - host.pool.reserved >= needed)
    return { use: true, reason: `${reason}, from the pool`, pages: 0, before };
  const mib = (bytes: number) => `${Math.round(bytes / 1024 ** 2)} MiB`;
  const want = mib(neededBytes + spare);
  return refuse(`${mib(host.available)} of host memory are available, ${want} would be needed`);
}

/** Labs with other run directories change the same number. */
const withPool = <T>(action: () => T): Promise<T> =>
  withLock(
    "hugepages",
    POOL,
    { waitMs: 10_000, busy: "another lab changes the huge pages of the host" },
    async () => action(),
  );

/**
 * Adds pages to the pool.
 * @throws MWARP_E_LAB when the host's memory is too fragmented; the pool is then as before.
 */
export async function reservePages(pages: number): Promise<void> {
  await withPool(() => {
    const before = persistentPages();
    writeFileSync(`${POOL}/nr_hugepages`, String(before + pages));
    const got = persistentPages();
    if (got >= before + pages) return;
    writeFileSync(`${POOL}/nr_hugepages`, String(before));
    throw new MwarpError(
      "MWARP_E_LAB",
      `the host could make only ${got - before} of ${pages} pages of 2 MiB`,
      {
        hint: "Its memory is fragmented; --backing 4k uses ordinary pages.",
      },
    );
  });
}

/**
 * Takes pages from the pool again: as many as were added, because others may have added theirs in the meantime.
 * A lab that was killed while it reserved (`reserved` false) has added some, all or none: what the pool has grown by and nobody uses.
 */
export async function releasePages(resource: {
  pages: number;
  before: number;
  reserved: boolean;
}): Promise<void> {
  if (!existsSync(POOL)) return;
  await withPool(() => {
    const now = persistentPages();
    const idle = readNumber("free_hugepages") - readNumber("resv_hugepages");
    const added = resource.reserved
      ? resource.pages
      : Math.max(0, Math.min(resource.pages, now - resource.before, idle));
    writeFileSync(`${POOL}/nr_hugepages`, String(Math.max(0, now - added)));
  });
}

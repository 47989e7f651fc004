/**
 * Memory of a running container that a destination can have ready before the freeze: private anonymous mappings, and of those what is
 * in memory now. The container runs on, so all of it is a guess; what it becomes later is populated as ever.
 */
import type { Task } from "../../protocol/agent.js";
import { MAX_STAGED_FILLS, MAX_STAGED_MAPPINGS, type StagedMapping } from "../../protocol/stage.js";
import { HUGE_BYTES, PAGE_BYTES } from "../../units.js";
import { readIfThere } from "../files.js";
import type { Helper } from "../helper.js";

/** How much a mapping may grow on either side until the freeze and still get what is staged, pages. Only addresses are spent on it. */
const ROOM_PAGES = 16_384;
/**
 * Mappings of which less is in memory are left out, pages; and those of which most is not, whose page tables would be read for it:
 * nobody else's requests are to wait for a mapping of a TiB.
 */
const LEAST_PAGES = 16;
const MOST_PAGES_FOR_ONE = 16;
/** Lowest page that a process may map (vm.mmap_min_addr). */
const FIRST_PAGE = 16;
const HUGE_PAGES = HUGE_BYTES / PAGE_BYTES;

type Candidate = Omit<StagedMapping, "nsPid" | "fills">;

/** Grows downwards, hugetlb, locked, device memory, page frames of a device: CRIU maps those in other ways, or not at all. */
const unfit: ReadonlySet<string> = new Set(["gd", "ht", "lo", "io", "pf"]);

/** Mappings that can be staged, by the text of /proc/PID/smaps (proc_pid_smaps(5)). */
export function candidates(smaps: string, ofProcess: "on" | "off"): Candidate[] {
  const found: Candidate[] = [];
  let open: { page: number; pages: number; present: number; hugeBytes: number } | null = null;
  for (const line of smaps.split("\n")) {
    const header = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ (\d+) *(.*)$/.exec(line);
    if (header !== null) {
      const [, start = "", end = "", rights = "", inode, name = ""] = header;
      const page = Number.parseInt(start, 16) / PAGE_BYTES;
      const pages = Number.parseInt(end, 16) / PAGE_BYTES - page;
      const ours = rights[1] === "w" && rights[3] === "p" && inode === "0";
      const named = name === "" || name === "[heap]" || name.startsWith("[anon:");
      open = ours && named && pages >= HUGE_PAGES ? { page, pages, present: 0, hugeBytes: 0 } : null;
    } else if (open !== null && line.startsWith("Anonymous:")) {
      open.present = (Number(/\d+/.exec(line)?.[0]) * 1024) / PAGE_BYTES;
    } else if (open !== null && line.startsWith("AnonHugePages:")) {
      open.hugeBytes = Number(/\d+/.exec(line)?.[0]) * 1024;
    } else if (open !== null && line.startsWith("VmFlags:")) {
      const flags = line.slice("VmFlags:".length).trim().split(" ");
      const { present, ...mapping } = open;
      const dense = present >= LEAST_PAGES && present * MOST_PAGES_FOR_ONE >= mapping.pages;
      if (dense && !flags.some((flag) => unfit.has(flag))) {
        const asked = flags.includes("hg") ? "asked" : "default";
        const wish = flags.includes("nh") ? "refused" : asked;
        found.push({
          ...mapping,
          commit: flags.includes("nr") ? "noreserve" : "reserve",
          hugePages: ofProcess === "off" ? "off" : wish,
        });
      }
      open = null;
    }
  }
  return found;
}

/** No more than are taken: the longest runs, and the mappings that have most of them. */
export function choose(mappings: readonly StagedMapping[]): StagedMapping[] {
  const lengths = mappings.flatMap(({ fills }) => fills.map(({ pages }) => pages)).sort((a, b) => b - a);
  const least = lengths.length > MAX_STAGED_FILLS ? lengths[MAX_STAGED_FILLS]! + 1 : 0;
  const pages = ({ fills }: StagedMapping): number => fills.reduce((sum, fill) => sum + fill.pages, 0);
  return mappings
    .map((mapping) => ({ ...mapping, fills: mapping.fills.filter((fill) => fill.pages >= least) }))
    .filter(({ fills }) => fills.length > 0)
    .toSorted((a, b) => pages(b) - pages(a))
    .slice(0, MAX_STAGED_MAPPINGS);
}

export async function stageable(tasks: readonly Task[], helper: Helper): Promise<StagedMapping[]> {
  const mappings: StagedMapping[] = [];
  for (const { pid, nsPid } of tasks) {
    // A task that has ended meanwhile has nothing.
    const smaps = await readIfThere(`/proc/${pid}/smaps`);
    if (smaps === null) continue;
    const status = (await readIfThere(`/proc/${pid}/status`)) ?? "";
    for (const found of candidates(smaps, /^THP_enabled:\s+0$/m.test(status) ? "off" : "on")) {
      const fills = await helper.presentRuns(pid, [{ nsPid, page: found.page, pages: found.pages }]);
      const page = Math.max(FIRST_PAGE, found.page - ROOM_PAGES);
      mappings.push({
        ...found,
        nsPid,
        page,
        pages: found.page + found.pages + ROOM_PAGES - page,
        fills,
      });
    }
  }
  return choose(mappings);
}

/** Frames and leaf flags of all wanted pages in one guest: one walk per task. */
import { MwarpError } from "../errors.js";
import type { WantedPages } from "./page-ranges.js";
import { PageTableWalker, type WalkOutput, walkOutput } from "./pagewalk.js";
import type { GuestView } from "./physical-memory.js";
import type { RamMap } from "./ram-map.js";

/** Index is the position of the page in the wanted order. */
export interface Walk extends WalkOutput {
  readonly tableReads: number;
}

/** Throws MWARP_E_WARP when a task has no root, two tasks share one, or the tables cannot be right. */
export function walkWanted(
  guest: GuestView,
  ram: RamMap,
  wanted: WantedPages,
  out: WalkOutput = walkOutput(wanted.total),
): Walk {
  const roots = rootsByTask(guest, wanted);
  const walker = new PageTableWalker(guest.memory, ram, guest.levels);
  const endOfUser = 512 ** guest.levels / 2;
  let position = 0;
  for (const [index, task] of wanted.tasks.entries()) {
    walker.open(roots[index]);
    for (let run = 0; run < task.pages.length; run++) {
      const start = task.startPage[run];
      const pages = task.pages[run];
      if (start + pages > endOfUser) {
        throw new MwarpError("MWARP_E_WARP", `task ${task.nsPid}: page ${start} is the kernel's`);
      }
      walker.walk(start, pages, out, position);
      position += pages;
    }
  }
  return { ...out, tableReads: walker.tableReads };
}

/** Tasks must not share an address space: its leaves would be counted twice and look like exclusive ownership. */
function rootsByTask(guest: GuestView, wanted: WantedPages): number[] {
  const byPid = new Map(guest.roots.map((root) => [root.nsPid, root.rootGpa]));
  const seen = new Set<number>();
  return wanted.tasks.map(({ nsPid }) => {
    const root = byPid.get(nsPid);
    if (root === undefined) throw new MwarpError("MWARP_E_WARP", `task ${nsPid} has no page-table root`);
    if (seen.has(root)) throw new MwarpError("MWARP_E_WARP", `task ${nsPid} shares its address space`);
    seen.add(root);
    return root;
  });
}

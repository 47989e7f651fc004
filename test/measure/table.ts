/**
 * What the table of a stun costs, after a rehearsal, made in each way in turns: `make measure`. The figures in ARCHITECTURE.md
 * are from here. Not a test of vitest's, whose way to load modules makes such loops half as slow again.
 */
import { GIB, PAGE_BYTES } from "../../src/units.js";
import { walkWanted } from "../../src/warp/address-space-walk.js";
import { wantedPages } from "../../src/warp/page-ranges.js";
import { RamMap } from "../../src/warp/ram-map.js";
import { SideWalker } from "../../src/warp/side-walker.js";
import { buildTable } from "../../src/warp/table.js";
import { TableRoom } from "../../src/warp/table-room.js";
import { bigGuest, FIRST_PAGE, type Leaves } from "./big-guest.js";

const ROUNDS = 15;
const leaves: readonly Leaves[] = ["scattered 4 KiB", "ascending 4 KiB", "2 MiB"];
const print = (line: string): boolean => process.stdout.write(`${line}\n`);

async function measure(gib: number, kind: Leaves): Promise<void> {
  const wanted = wantedPages([{ nsPid: 1, page: FIRST_PAGE, pages: (gib * GIB) / PAGE_BYTES }]);
  const source = await bigGuest(gib, kind, 1);
  await using _source = source.held;
  const destination = await bigGuest(gib, kind, 2);
  await using held = destination.held;
  const aside = new SideWalker({ pid: held.pid, layout: held.layout }, print);
  const views = { source: source.view, destination: destination.view, wanted };
  const ways: Record<string, () => () => unknown> = {
    "page tables of one guest": () => () => walkWanted(source.view, new RamMap(source.view.layout), wanted),
    "one thread, fresh memory": () => () => buildTable(views),
    "one thread": () => inRoom((room) => buildTable({ ...views, room })),
    "two threads": () => inRoom((room) => buildTable({ ...views, room, aside })),
  };
  const times = new Map(Object.keys(ways).map((way) => [way, [] as number[]]));
  for (let round = 0; round < ROUNDS; round++)
    for (const [way, start] of Object.entries(ways)) {
      const make = start();
      make();
      const since = performance.now();
      make();
      times.get(way)?.push(performance.now() - since);
    }
  aside.close();
  for (const [way, all] of times) {
    const sorted = all.toSorted((a, b) => a - b);
    const [least, median] = [sorted[0]!, sorted[ROUNDS >> 1]!].map((ms) => ms.toFixed(1));
    print(`${gib} GiB of ${kind} pages, ${way}: median ${median}, least ${least} ms`);
  }
}

function inRoom(make: (room: TableRoom) => unknown): () => unknown {
  const room = new TableRoom();
  return () => make(room);
}

for (const gib of [1, 4]) for (const kind of leaves) await measure(gib, kind);

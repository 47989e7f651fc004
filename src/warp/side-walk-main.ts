/** The thread that walks the destination's page tables while the source's are walked. Started by side-walker.ts. */
import { parentPort, workerData } from "node:worker_threads";
import { MwarpError } from "../errors.js";
import { GuestMemory } from "../vm/memory.js";
import { walkDestination } from "./destination-walk.js";
import { RamMap } from "./ram-map.js";
import { type SideWalkGuest, type SideWalkRequest, WalkState } from "./side-walk.js";

const { pid, layout } = workerData as SideWalkGuest;
const memory = new GuestMemory(pid, layout);

parentPort?.on("message", ({ guest, wanted, out, control }: SideWalkRequest) => {
  if (Atomics.compareExchange(control, 0, WalkState.asked, WalkState.walking) !== WalkState.asked) return;
  let end: number = WalkState.failed;
  try {
    control[1] = walkDestination({ ...guest, memory }, new RamMap(guest.layout), wanted, out).tableReads;
    end = WalkState.done;
  } catch (error) {
    // Who asked finds the reason again, for itself. What no guest can bring about ends this thread.
    if (!(error instanceof MwarpError)) throw error;
  } finally {
    Atomics.store(control, 0, end);
    Atomics.notify(control, 0);
  }
});

/** Notices that a VM has ended, so that the memory it leaves behind is not held for nothing (I4). */
import type { DaemonPorts } from "./ports.js";

/** A VM that ended is noticed within this time, ms. */
const LOOK_EVERY_MS = 2_000;

type WatchPorts = Pick<DaemonPorts, "vms" | "inspector" | "engine" | "log">;

/** Looks now and then until disposed. The first look frees what a VM left that ended while no daemon ran. */
export function watchVms(ports: WatchPorts): Disposable {
  const stopped = new AbortController();
  let known: ReadonlySet<string> | null = null;
  let busy = false;
  const look = async (): Promise<void> => {
    const alive = new Set(
      ports.vms
        .list()
        .filter((vm) => ports.inspector.isAlive(vm))
        .map(({ pid, startTime }) => `${pid}:${startTime}`),
    );
    const ended = known === null || [...known].some((vm) => !alive.has(vm));
    if (!ended) {
      known = alive;
      return;
    }
    // `known` stays until it is done: what failed is tried again at the next look.
    const bytes = await ports.engine.reclaim(stopped.signal);
    if (bytes === null) return;
    known = alive;
    if (bytes > 0) ports.log.info({ bytes }, "freed memory of VMs that have ended");
  };
  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    look()
      .catch((err: unknown) => ports.log.warn({ err }, "memory of ended VMs could not be freed"))
      .finally(() => {
        busy = false;
      });
  }, LOOK_EVERY_MS);
  timer.unref();
  return {
    [Symbol.dispose]: () => {
      clearInterval(timer);
      stopped.abort();
    },
  };
}

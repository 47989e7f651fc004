/** The end of a migration after the commit: the destination has all that it needs, and the source is cleared. */
import { setTimeout as sleep } from "node:timers/promises";
import { isMwarpError, MwarpError } from "../../errors.js";
import type { MigrationMethod } from "../../protocol/migration.js";
import type { MigrationVm } from "../ports.js";
import { limits } from "./common.js";

/** Above what an agent waits for the last page before it says that it takes longer (agent/migration/lazy-pages.ts), ms. */
const FINISH_MS = 300_000;
const LOOK_EVERY_MS = 500;
const LOOKS_PER_QUESTION = 10;

export interface Ends {
  readonly id: string;
  readonly method: MigrationMethod;
  /** Boot of the source's guest when the migration began; undefined in journals that do not say. */
  readonly sourceBoot: string | undefined;
  /** Null when that VM has ended. */
  readonly source: MigrationVm | null;
  readonly destination: MigrationVm;
}

/**
 * Neither side waits for the other, as the source VM may be the one that is dying; but with post-copy the source serves until
 * the destination has the last page.
 * @throws MWARP_E_CONTAINER_LOST when pages that the container needs will never come: it has ended
 */
export async function retireBoth({ id, method, sourceBoot, source, destination }: Ends): Promise<void> {
  const retire = async (): Promise<void> => {
    // With its VM all of it has ended.
    if (source !== null && !source.isGone()) await callAgent(source, "source.retire", id);
  };
  if (method === "postcopy") {
    // Also when the container is lost: what the source holds of it is of no use without the rest.
    const [finished] = await Promise.allSettled([finishPostcopy(id, source, sourceBoot, destination)]);
    if (finished.status === "rejected" && !isMwarpError(finished.reason, "MWARP_E_CONTAINER_LOST"))
      throw finished.reason;
    await retire();
    if (finished.status === "rejected") throw finished.reason;
    return;
  }
  const ends = await Promise.allSettled([retire(), finish(id, source, destination)]);
  const failure = ends.find((end) => end.status === "rejected");
  if (failure !== undefined) throw failure.reason;
}

/** Whether the guest has booted since the migration began: nothing of it, and no container, has outlived that. */
export async function hasRebooted(vm: MigrationVm, boot: string | undefined): Promise<boolean> {
  if (boot === undefined) return false;
  const agent = await vm.agent();
  const { bootId } = await agent.call("info", {}, { timeoutMs: limits.quick });
  return bootId !== boot;
}

/** Waits for the last page, unless the VM that serves them ends or its guest boots anew. */
async function finishPostcopy(
  id: string,
  source: MigrationVm | null,
  sourceBoot: string | undefined,
  destination: MigrationVm,
): Promise<void> {
  if (source === null) return finish(id, null, destination);
  const watch = new AbortController();
  const finished = finish(id, source, destination).finally(() => watch.abort());
  const isGone = async (): Promise<"gone"> => {
    for (let look = 1; !source.isGone(); look++) {
      await sleep(LOOK_EVERY_MS, undefined, { signal: watch.signal });
      // A guest that does not answer may still be serving.
      if (look % LOOKS_PER_QUESTION === 0 && (await hasRebooted(source, sourceBoot).catch(() => false)))
        break;
    }
    return "gone";
  };
  // What ends this watch is the end of the other.
  const first = await Promise.race([finished, isGone().catch(() => finished)]);
  if (first !== "gone") return;
  // The agent gives up the first request for the second.
  finished.catch(() => undefined);
  await finish(id, null, destination);
}

async function finish(id: string, source: MigrationVm | null, destination: MigrationVm): Promise<void> {
  const agent = await destination.agent();
  const params = { migration: id, source: source === null ? "gone" : "there" } as const;
  const end = await agent.call("destination.finish", params, { timeoutMs: FINISH_MS }).catch(doneLongAgo);
  if (end.outcome === "lost")
    throw new MwarpError("MWARP_E_CONTAINER_LOST", `the container was ended: ${end.reason}`);
}

/** A guest forgets the oldest migrations that it has finished (agent/migration/record.ts). */
function doneLongAgo(error: unknown): { outcome: "forgotten" } {
  if (!isMwarpError(error, "MWARP_E_MIGRATION_UNKNOWN")) throw error;
  return { outcome: "forgotten" };
}

/** A request whose only parameter is the migration, on a connection that may have to be made anew. */
export async function callAgent(
  vm: MigrationVm,
  method: "source.retire" | "source.abort" | "destination.abort",
  migration: string,
): Promise<void> {
  const agent = await vm.agent();
  await agent.call(method, { migration }, { timeoutMs: limits.restore });
}

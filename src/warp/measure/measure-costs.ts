/**
 * Measures what exchanges cost on this host: real ones, between two processes that stand for VMMs. What a VMM adds to a change
 * of its mappings (KVM's MMU notifier, TCG's TLB) is not in it.
 */
import { type CostFile, type ExchangeCosts, type MemoryKind, memoryKinds } from "../../protocol/costs.js";
import { PAGES_PER_HUGE } from "../../units.js";
import { type CostSample, fitCosts } from "../cost-model.js";
import { type Extents, ExtentsBuilder, NO_EXTENTS } from "../extent-list.js";
import { MemoryPair } from "./memory-pair.js";

/** 32 MiB in each of the two: more than the second-level cache, filled in some 20 ms. */
const PAGES = 8192;
/** The least of some tries: other load only ever adds. On a busy host they take long, and fewer must do. */
const MAX_TRIES = 6;
const MIN_TRIES = 2;
/** For one kind of memory, ms; after it there are no more tries than the fewest. */
const TIME_MS = 400;

/** Microseconds of every kind of memory that the host has. */
export async function measureCosts(signal: AbortSignal): Promise<CostFile["costs"]> {
  const costs: CostFile["costs"] = { "4k": null, thp: null, hugetlb: null };
  // One after the other: side by side they would measure each other.
  for (const kind of memoryKinds) costs[kind] = await measureKind(kind, signal);
  return costs;
}

export async function measureKind(kind: MemoryKind, signal: AbortSignal): Promise<ExchangeCosts | null> {
  await using pair = await MemoryPair.start(kind, PAGES, signal);
  if (pair === null) return null;
  const until = performance.now() + TIME_MS;
  const warmUs = await warmTouch(pair, signal);
  const sample = (extents: number, runPages: number, how: Measured): Promise<CostSample> =>
    measureRuns({ pair, warmUs, until, signal }, scattered(extents, runPages), how);
  // Long runs first: short ones leave huge mappings in pieces.
  if (kind !== "hugetlb") {
    const long = await sample(PAGES / PAGES_PER_HUGE, PAGES_PER_HUGE, "both");
    const one = await sample(1, 1, "both");
    const short = await sample(1024, 1, "both");
    return fitCosts({ one, short, long, shortRemap: short });
  }
  const long = await sample(2, PAGES / 2, "both");
  const shortRemap = await sample(PAGES / PAGES_PER_HUGE, PAGES_PER_HUGE, "both");
  const one = await sample(1, PAGES_PER_HUGE, "both");
  const short = await sample(1024, 1, "copy");
  const oneCopied = await sample(1, 1, "copy");
  return fitCosts({ one: { ...one, copyUs: oneCopied.copyUs }, short, long, shortRemap });
}

/** Touching every page when all are mapped. */
async function warmTouch({ destination }: MemoryPair, signal: AbortSignal): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < MIN_TRIES; attempt++)
    least = Math.min(least, await destination.touch(signal));
  return least;
}

type Measured = "both" | "copy";

interface Bench {
  readonly pair: MemoryPair;
  /** What touching every page takes when all are mapped. */
  readonly warmUs: number;
  /** On the clock of performance.now(). */
  readonly until: number;
  readonly signal: AbortSignal;
}

async function measureRuns(
  { pair, warmUs, until, signal }: Bench,
  extents: Extents,
  how: Measured,
): Promise<CostSample> {
  let [remapUs, touchUs, copyUs] = [Infinity, Infinity, Infinity];
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    if (tries >= MIN_TRIES && performance.now() > until) break;
    const copied = await pair.run({ remap: NO_EXTENTS, copy: extents }, signal);
    copyUs = Math.min(copyUs, copied.exchangeUs);
    if (how === "copy") continue;
    const remapped = await pair.run({ remap: extents, copy: NO_EXTENTS }, signal);
    remapUs = Math.min(remapUs, remapped.exchangeUs);
    touchUs = Math.min(touchUs, Math.max(0, remapped.touchUs - warmUs));
  }
  const sample = { extents: extents.count, runPages: extents.pages[0], copyUs };
  return how === "both" ? { ...sample, remapUs, touchUs } : { ...sample, remapUs: null, touchUs: null };
}

/** Runs one after the other, in another order on the other side. */
function scattered(count: number, runPages: number): Extents {
  const extents = new ExtentsBuilder(count);
  // Odd, so that with a power of two of runs every one is met once.
  const stride = 177;
  for (let run = 0; run < count; run++)
    extents.push(run * runPages, ((run * stride) % count) * runPages, runPages);
  return extents.build();
}

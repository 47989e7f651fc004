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
/** The least of some tries: other load only ever adds. */
const MAX_TRIES = 12;
const MIN_TRIES = 2;
/** For one kind of memory, ms; after it there are more tries only until two agree. */
const TIME_MS = 400;
/**
 * How much the least two of some tries differ at most for them to agree. One that was kept from a processor takes a scheduler's slice
 * longer, which is more than any exchange: twice running, and huge pages would seem dearer to exchange than to copy.
 */
const AGREEMENT = 1.25;

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
  const [remap, touch, copy] = [new Tries(), new Tries(), new Tries()];
  const agree = (): boolean => copy.agree && (how === "copy" || (remap.agree && touch.agree));
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    if (tries >= MIN_TRIES && performance.now() > until && agree()) break;
    copy.add((await pair.run({ remap: NO_EXTENTS, copy: extents }, signal)).exchangeUs);
    if (how === "copy") continue;
    const remapped = await pair.run({ remap: extents, copy: NO_EXTENTS }, signal);
    remap.add(remapped.exchangeUs);
    touch.add(remapped.touchUs);
  }
  const sample = { extents: extents.count, runPages: extents.pages[0], copyUs: copy.least };
  if (how === "copy") return { ...sample, remapUs: null, touchUs: null };
  return { ...sample, remapUs: remap.least, touchUs: Math.max(0, touch.least - warmUs) };
}

/** What the same work took each time, in microseconds: the least two. */
class Tries {
  least = Infinity;
  #second = Infinity;

  add(us: number): void {
    this.#second = Math.min(this.#second, Math.max(this.least, us));
    this.least = Math.min(this.least, us);
  }

  get agree(): boolean {
    return this.#second <= AGREEMENT * this.least;
  }
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

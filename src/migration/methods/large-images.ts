/**
 * Image files that are too large for the agents' channels: shared memory, what lies on tmpfs, files that were removed while open.
 * They lie on tmpfs themselves, so they are pages of the source guest, too, and their frames are exchanged with those of empty files
 * of the destination guest. In a stun of its own, because the restore reads them. It commits nothing: the container's memory is as
 * it was, and a source that goes on needs no image.
 */
import { type HeldFile, HOLDER_TASK, type ImageFile } from "../../protocol/images.js";
import { PAGE_BYTES, PAGES_PER_HUGE } from "../../units.js";
import { type WantedPages, wantedPages } from "../../warp/page-ranges.js";
import { ChunkCollector } from "../chunks.js";
import { type StunInput, stun } from "../stun.js";
import { limits, mostBytes, type StepContext, sendImages, splitFiles } from "./common.js";

/** Below it the channel takes them in less time than both VMs would stand still. */
const LEAST_BYTES = 4 * 1024 * 1024;
/** Where files are mapped on both sides: 32 TiB, far from what a small static program has. */
const FIRST_PAGE = 2 ** 33;
/** Stuns that find a page missing, as the kernel was moving it, before the files go through the channel. */
const MOST_TRIES = 4;

/** What the stun for image files has in common with that of the container's memory. */
export type ImageStun = Pick<
  StunInput,
  | "source"
  | "destination"
  | "aside"
  | "room"
  | "sourceInfo"
  | "destinationInfo"
  | "backend"
  | "costs"
  | "maxStunMs"
  | "onExchange"
  | "onUndone"
  | "commit"
>;

/** Large image files of the dump as bytes. */
export async function fetchImages(
  context: StepContext,
  files: readonly ImageFile[],
): Promise<Map<string, Uint8Array>> {
  if (files.length === 0) return new Map();
  const collector = new ChunkCollector(mostBytes(context));
  await context.checked.sourceAgent.call(
    "source.images",
    { migration: context.id, files: [...files] },
    { signal: context.signal, timeoutMs: limits.transfer, onChunk: collector.onChunk },
  );
  return splitFiles(files, collector.take());
}

/** Brings them to the destination, with the images in `small`: by exchange where that pays. */
export async function deliverImages(
  context: StepContext,
  small: ReadonlyMap<string, Uint8Array>,
  large: readonly ImageFile[],
  facts: ImageStun,
): Promise<void> {
  const bytes = large.reduce((sum, file) => sum + file.bytes, 0);
  if (bytes < LEAST_BYTES)
    return sendImages(context, new Map([...small, ...(await fetchImages(context, large))]));
  const files = layOut(large);
  // Each needs a frame of its own on the destination.
  const most = context.checked.layouts!.destination.bytes / PAGE_BYTES;
  const runs = files.map(({ page, bytes: length }) => ({ nsPid: HOLDER_TASK, page, pages: pagesOf(length) }));
  const wanted = wantedPages(runs, most);
  const [roots] = await Promise.all([holdBoth(context, files), sendImages(context, small)]);
  if (await exchange(context, { ...facts, ...roots }, wanted)) {
    context.tally.warpedImageBytes = bytes;
    return;
  }
  context.onNote(
    "large image files go through the agents' channels: their pages went missing again and again",
  );
  await sendImages(context, await fetchImages(context, large));
}

const pagesOf = (bytes: number): number => Math.ceil(bytes / PAGE_BYTES);

/** Each from a 2 MiB border on, so that page tables of one are not those of another. */
function layOut(files: readonly ImageFile[]): HeldFile[] {
  let page = FIRST_PAGE;
  return files.map((file) => {
    const own = page;
    page += Math.ceil(pagesOf(file.bytes) / PAGES_PER_HUGE) * PAGES_PER_HUGE;
    return { ...file, page: own };
  });
}

type Roots = Pick<StunInput, "sourceRoots" | "destinationRoots">;

async function holdBoth(context: StepContext, files: HeldFile[]): Promise<Roots> {
  const { sourceAgent, destinationAgent } = context.checked;
  const params = { migration: context.id, files };
  const options = { signal: context.signal, timeoutMs: limits.transfer };
  const [from, into] = await Promise.all([
    sourceAgent.call("source.holdImages", params, options),
    destinationAgent.call("destination.holdImages", params, options),
  ]);
  return { sourceRoots: [from.root], destinationRoots: [into.root] };
}

/** False when it could not be done, and nothing was. */
async function exchange(
  context: StepContext,
  facts: ImageStun & Roots,
  wanted: WantedPages,
): Promise<boolean> {
  const { clock, tally } = context;
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    context.signal.throwIfAborted();
    await context.deadMan.armed();
    const outcome = await stun(
      {
        ...facts,
        pagesOf: "imageFiles",
        onNote: context.onNote,
        onStun: (source, destination, parts) => clock.stunned(source, destination, parts),
      },
      wanted,
      "rehearsed",
    );
    if (outcome.kind === "missing") continue;
    tally.remappedImagePages = outcome.plan.remap.totalPages;
    tally.copiedImagePages = outcome.plan.copy.totalPages;
    return true;
  }
  return false;
}

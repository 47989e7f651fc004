/**
 * Rewrites a dump that was made against the static parent into one that can be restored without it.
 *
 * Such a dump lists each page of each task either as present (its bytes are in the pages file) or as lying in the
 * parent, which has nothing. Of the latter, pages of private anonymous writable mappings are dropped from the pagemap,
 * so that CRIU restores them empty, and returned as `wanted`: the exchange of frames fills them. All others (vdso,
 * file-private data, read-only mappings) get their bytes from the frozen task now and become present.
 *
 * A page dropped by mistake is a lost page: every page listed is kept, filled or wanted, and that is checked.
 */
import type { PageRun } from "../protocol/agent.js";
import { HANDOVER_FILE, type StagedMapping } from "../protocol/stage.js";
import { PAGE_BYTES } from "../units.js";
import { countPages, type ReadPages, readRuns } from "./fill.js";
import { handOverList } from "./hand-over.js";
import { imageError } from "./image.js";
import { encodePagemap, presentRecord } from "./pagemap.js";
import { type Piece, planTasks, type TaskPlan } from "./plan.js";
import { type ImageFiles, type Poke, readPokes, readTasks, requireFile } from "./tasks.js";

/** Pages of all tasks together; listed = kept + filled + wanted. */
export interface SkeletonCounts {
  /** Tasks with memory. */
  readonly tasks: number;
  readonly listed: number;
  readonly kept: number;
  readonly filled: number;
  readonly wanted: number;
}

export interface Skeleton {
  /** The image files to restore from. */
  readonly files: Map<string, Uint8Array>;
  /** All pages to warp: by nsPid, then page; neighbouring runs of a task are merged. */
  readonly wanted: PageRun[];
  /** Words to write after the exchange. */
  readonly pokes: Poke[];
  readonly counts: SkeletonCounts;
}

/**
 * @param files image files of the dump by name; those that need no change are passed on.
 * @param readPages reads pages of the frozen source tasks.
 * @param staged memory that the destination has ready; the files then say which mappings get it.
 * @throws MWARP_E_IMAGE when the images are not as expected or a page is unaccounted for; MWARP_E_UNSUPPORTED when more
 * memory than fits an image would have to be copied; whatever `readPages` throws.
 */
export async function rewriteSkeleton(
  files: ImageFiles,
  readPages: ReadPages,
  staged: readonly StagedMapping[] = [],
): Promise<Skeleton> {
  const tasks = readTasks(files);
  const plans = planTasks(files, tasks);
  const pokes = readPokes(files, tasks);
  const wanted = plans.toSorted((a, b) => a.nsPid - b.nsPid).flatMap((plan) => plan.wanted);
  const counts = account(plans, wanted);

  const fills = plans.flatMap(({ nsPid, pieces }) =>
    pieces.flatMap((piece) =>
      piece.kind === "fill" ? [{ nsPid, page: piece.page, pages: piece.pages }] : [],
    ),
  );
  const fillBytes = await readRuns(fills, readPages);
  let filled = 0;
  const out = new Map(files);
  // A link to the static parent in the source guest; it leads nowhere on the destination.
  out.delete("parent");
  // Ours to write.
  out.delete(HANDOVER_FILE);
  for (const { nsPid, pagemap, pagesName, pieces } of plans) {
    out.set(`pagemap-${nsPid}.img`, encodePagemap(pagemap.head, pieces.map(pieceRecord)));
    const ours = countPages(pieces.filter((piece) => piece.kind === "fill")) * PAGE_BYTES;
    out.set(
      pagesName,
      mergePages(requireFile(files, pagesName), fillBytes.subarray(filled, filled + ours), pieces),
    );
    filled += ours;
  }
  const list = handOverList(
    plans.map(({ task, pagemap, wanted: own }) => ({ task, listed: pagemap.runs, wanted: own })),
    staged,
  );
  if (list !== null) out.set(HANDOVER_FILE, new TextEncoder().encode(list));
  return { files: out, wanted, pokes, counts };
}

const pieceRecord = (piece: Piece): Uint8Array =>
  piece.kind === "keep" ? piece.record : presentRecord(piece.page, piece.pages);

/** The pages file for `pieces`: bytes of kept entries from `kept`, of filled ones from `filled`, in the order of entries. */
function mergePages(kept: Uint8Array, filled: Uint8Array, pieces: readonly Piece[]): Uint8Array {
  if (filled.length === 0) return kept;
  const bytes = new Uint8Array(kept.length + filled.length);
  const source = { keep: { bytes: kept, at: 0 }, fill: { bytes: filled, at: 0 } };
  let to = 0;
  for (const piece of pieces) {
    const from = source[piece.kind];
    const length = piece.pages * PAGE_BYTES;
    bytes.set(from.bytes.subarray(from.at, from.at + length), to);
    from.at += length;
    to += length;
  }
  return bytes;
}

function account(plans: readonly TaskPlan[], wanted: readonly PageRun[]): SkeletonCounts {
  const total = (count: (plan: TaskPlan) => number): number =>
    plans.reduce((sum, plan) => sum + count(plan), 0);
  const pages = (kind: Piece["kind"]) =>
    total(({ pieces }) => countPages(pieces.filter((piece) => piece.kind === kind)));
  const counts = {
    tasks: plans.length,
    listed: total(({ pagemap }) => countPages(pagemap.runs)),
    kept: pages("keep"),
    filled: pages("fill"),
    wanted: countPages(wanted),
  };
  if (counts.kept + counts.filled + counts.wanted !== counts.listed) {
    throw imageError("pagemap", `pages unaccounted for: ${JSON.stringify(counts)}`);
  }
  return counts;
}

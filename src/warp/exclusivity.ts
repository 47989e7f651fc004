/**
 * What each source page is, and which frames belong to the container alone (invariant I3).
 *
 * Each leaf that maps a folio holds one reference to it: a 2 MiB leaf one, each 4 KiB leaf one. A folio is exclusive
 * when it is anonymous and its reference count equals the number of its leaves that this walk has found; a page of an image file has
 * one more, the file's own. Any other
 * holder makes the count higher: a task outside the container, the swap cache, a pin (O_DIRECT, vmsplice, zero-copy
 * send), a batch of the LRU lists, migration or compaction under way. KSM and zero pages are not anonymous by their
 * mapping word. When in doubt a page is not exclusive: copying from the source is always safe.
 */
import type { Walk } from "./address-space-walk.js";
import { Leaf } from "./pagewalk.js";
import { FolioKind, type StructPages } from "./struct-page.js";
import type { TableRoom } from "./table-room.js";

const USER_PAGE = Leaf.present | Leaf.user;

/** What a page is on the source. Only `exclusive` ones may be exchanged. */
export const SourceKind = {
  /** Not present, or its struct page could not be read. */
  unknown: 0,
  /** Anonymous or of an image file, and every reference to its folio is known: the container's leaves, the file's one. */
  exclusive: 1,
  /** Anonymous, and something else holds it, too: another task, the swap cache, a pin, a scan under way. */
  held: 2,
  ksm: 3,
  /** Not written since it was mapped from a file, or since a read fault on shared memory. */
  file: 4,
  zero: 5,
  hugeZero: 6,
} as const;

/** SourceKind of each wanted page. Reads the struct pages it needs. A stretch of the walk is a part of one folio, or one page. */
export function sourceKinds(walk: Walk, structPages: StructPages, room: TableRoom): Uint8Array {
  const { frames, flags, stretches } = walk;
  const total = frames.length;

  const { asked, others } = room;
  for (let position = 0; position < total; position += stretches[position]) {
    if (isUserPage(flags[position])) asked.add(representative(frames[position], flags[position]));
  }
  structPages.read(asked);

  // Head of each stretch's folio plus one; 0 when not known.
  const { heads } = room;
  for (let position = 0; position < total; position += stretches[position]) {
    if (!isUserPage(flags[position])) continue;
    const frame = representative(frames[position], flags[position]);
    const head = structPages.headOf(frame);
    if (head < 0) continue;
    heads[position] = head + 1;
    if (head !== frame && !asked.has(head)) others.add(head);
    else if ((flags[position] & Leaf.first) !== 0) structPages.countLeaf(head);
  }
  if (others.size > 0) {
    structPages.read(others);
    for (let position = 0; position < total; position += stretches[position])
      if (heads[position] > 0 && (flags[position] & Leaf.first) !== 0 && others.has(heads[position] - 1))
        structPages.countLeaf(heads[position] - 1);
  }

  const { kinds } = room;
  for (let position = 0; position < total; position += stretches[position]) {
    const head = heads[position] - 1;
    if (head < 0) continue;
    const kind = structPages.isExclusive(head)
      ? SourceKind.exclusive
      : otherKind(structPages.kindOf(head), flags[position]);
    if (stretches[position] === 1) kinds[position] = kind;
    else kinds.fill(kind, position, position + stretches[position]);
  }
  return kinds;
}

function otherKind(folio: number, flags: number): number {
  switch (folio) {
    case FolioKind.anonymous:
      return SourceKind.held;
    case FolioKind.ksm:
      return SourceKind.ksm;
    case FolioKind.file:
      return SourceKind.file;
    case FolioKind.unmapped:
      return (flags & Leaf.huge2M) === 0 ? SourceKind.zero : SourceKind.hugeZero;
    default:
      return SourceKind.unknown;
  }
}

function isUserPage(flags: number): boolean {
  return (flags & USER_PAGE) === USER_PAGE;
}

/** The frame that is asked for its folio: of a huge leaf the first, so that 512 pages cost one struct page. */
function representative(frame: number, flags: number): number {
  if ((flags & Leaf.huge2M) !== 0) return (frame & ~0x1ff) >>> 0;
  if ((flags & Leaf.huge1G) !== 0) return (frame & ~0x3ffff) >>> 0;
  return frame;
}

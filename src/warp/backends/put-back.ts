/**
 * Puts one VM's frames back to what an exchange record says they were. For recovery after a death inside the stun: the VM
 * is paused, and it may have done all of the exchange or nothing of it.
 */
import { MwarpError } from "../../errors.js";
import type { Hva } from "../../units.js";
import { type BackingFile, fileKey, lookupBacking, type RamBacking } from "../../vm/backing.js";
import type { MapExtents } from "../../vm/vmm-library.js";
import type { SidePieces } from "./exchange-pieces.js";
import type { ExchangeRecord } from "./exchange-record.js";
import type { MappingLibrary, RemapSide } from "./remap.js";

/** A stretch that is not backed as it was. */
interface Stray {
  readonly hva: number;
  readonly bytes: number;
  readonly was: { readonly file: string; readonly offset: number };
  readonly is: { readonly file: string; readonly offset: number };
}

/** Handles of memory files in one VM's library, by `fileKey`. */
export type OpenFiles = ReadonlyMap<string, number>;

/**
 * Lets a VM's library open all memory files that either VM maps, before anything is put back: what one side is about to
 * unmap may be what the other side must map, and nobody else may hold it any more.
 */
export async function openFiles(
  library: Pick<MappingLibrary, "open">,
  files: Iterable<BackingFile>,
): Promise<OpenFiles> {
  const handles = new Map<string, number>();
  for (const file of files) {
    const key = fileKey(file);
    if (handles.has(key)) continue;
    const opened = await library.open(file.path);
    if (fileKey(opened) !== key) throw stuck(`${file.path} is file ${fileKey(opened)}, not ${key}`);
    handles.set(key, opened.handle);
  }
  return handles;
}

/**
 * @param handles from `openFiles`
 * @returns the number of stretches that had to be put back
 * @throws MWARP_E_NEEDS_RECOVERY when the memory is still not as before; the VM must stay paused then
 */
export async function putBack(
  record: ExchangeRecord,
  own: SidePieces,
  side: Pick<RemapSide, "library" | "backing">,
  handles: OpenFiles,
): Promise<number> {
  const strays = findStrays(record, own, side.backing.read());
  if (strays.length === 0) return 0;
  for (const key of strays.flatMap(({ was, is }) => [was.file, is.file]))
    if (!handles.has(key)) throw stuck(`memory file ${key} is mapped nowhere any more`);
  await side.library.map(asExtents(strays, handles));
  const left = findStrays(record, own, side.backing.read());
  if (left.length > 0) throw stuck(`${left.length} stretches are still not as before`);
  return strays.length;
}

function findStrays(record: ExchangeRecord, own: SidePieces, now: RamBacking): Stray[] {
  const strays: Stray[] = [];
  for (let piece = 0; piece < record.count; piece++) {
    const start = own.hva[piece];
    const end = start + record.bytes[piece];
    const file = record.files[own.file[piece]];
    for (let at = start; at < end; ) {
      const segment = lookupBacking(now, at as Hva);
      if (segment < 0) throw stuck(`guest RAM at 0x${at.toString(16)} is not mapped`);
      const until = Math.min(end, now.hva[segment] + now.bytes[segment]);
      const was = { file, offset: own.offset[piece] + (at - start) };
      const is = {
        file: fileKey(now.files[now.file[segment]]),
        offset: now.offset[segment] + (at - now.hva[segment]),
      };
      if (was.file !== is.file || was.offset !== is.offset)
        strays.push({ hva: at, bytes: until - at, was, is });
      at = until;
    }
  }
  return strays.sort((a, b) => a.hva - b.hva);
}

function asExtents(strays: readonly Stray[], handles: OpenFiles): MapExtents {
  const numbers = (of: (stray: Stray) => number): Float64Array => Float64Array.from(strays, of);
  return {
    count: strays.length,
    hva: numbers(({ hva }) => hva),
    bytes: numbers(({ bytes }) => bytes),
    offset: numbers(({ was }) => was.offset),
    handle: Uint32Array.from(strays, ({ was }) => handles.get(was.file)!),
    oldOffset: numbers(({ is }) => is.offset),
    oldHandle: Uint32Array.from(strays, ({ is }) => handles.get(is.file)!),
  };
}

const stuck = (why: string): MwarpError =>
  new MwarpError("MWARP_E_NEEDS_RECOVERY", `the exchange cannot be taken back: ${why}`, {
    hint: "The VM stays paused. Its memory is not its own any more: stop it.",
  });

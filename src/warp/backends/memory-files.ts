/** The files behind VMs' RAM, mapped into this process for as long as something is copied. */
import { type Stats, statSync } from "node:fs";
import { MwarpError } from "../../errors.js";
import { type BackingFile, fileKey, type RamBacking } from "../../vm/backing.js";
import { mapFile, type NativeMapping, unmapFile } from "../native.js";

export class MemoryFiles implements Disposable {
  readonly mappings: readonly NativeMapping[];

  private constructor(mappings: readonly NativeMapping[]) {
    this.mappings = mappings;
  }

  /** In the order of `backing.files`. @throws MWARP_E_WARP; none stays mapped then */
  static map(backing: RamBacking, access: "read" | "write"): MemoryFiles {
    const mapped: NativeMapping[] = [];
    try {
      for (const [index, file] of backing.files.entries()) {
        mustBe(file, endOf(backing, index));
        mapped.push(mapFile(file.path, access));
      }
      return new MemoryFiles(mapped);
    } catch (error) {
      for (const mapping of mapped) unmapFile(mapping);
      throw error;
    }
  }

  /** Not while a copy is under way. */
  [Symbol.dispose](): void {
    for (const mapping of this.mappings) unmapFile(mapping);
  }
}

/** The path names a mapping of a paused VMM; should it change all the same, that is noticed. */
function mustBe(file: BackingFile, end: number): void {
  const { ino, size } = statFile(file);
  if (ino !== file.inode)
    throw new MwarpError("MWARP_E_WARP", `${file.path} is not file ${fileKey(file)} any more`);
  if (size < end) throw new MwarpError("MWARP_E_WARP", `${file.path} is shorter than what is mapped of it`);
}

/** Up to where a file backs guest RAM, bytes. */
function endOf({ count, file, offset, bytes }: RamBacking, index: number): number {
  let end = 0;
  for (let piece = 0; piece < count; piece++)
    if (file[piece] === index) end = Math.max(end, offset[piece] + bytes[piece]);
  return end;
}

/** @throws MWARP_E_WARP */
function statFile({ path }: BackingFile): Stats {
  try {
    return statSync(path);
  } catch (cause) {
    throw new MwarpError("MWARP_E_WARP", `cannot look at ${path}: ${(cause as Error).message}`, { cause });
  }
}

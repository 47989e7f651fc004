/** The hard links that a dump has made in the container's file system: names for files that were unlinked but have others. */
import { LinkPathSchema } from "../protocol/links.js";
import { NamedFileEntrySchema, RemapFilePathEntrySchema } from "./gen/remap_pb.js";
import { decodeImage, decodeRecord, imageError } from "./image.js";
import { type ImageFiles, requireFile } from "./tasks.js";

const REMAPS = "remap-fpath.img";
const FILES = "files.img";
/** remap_type (images/remap-file-path.proto); the others are files in the images, and processes that have ended. */
const LINKED = 0;

/**
 * Paths in the container of the links that a restore opens and removes again (criu/files-reg.c, create_link_remap).
 * @throws MWARP_E_IMAGE when an image is not as expected
 */
export function madeLinks(files: ImageFiles): string[] {
  const remaps = files.get(REMAPS);
  if (remaps === undefined) return [];
  const ids = new Set(
    decodeImage(REMAPS, "remapFpath", remaps).flatMap((record) => {
      const { remapId, remapType } = decodeRecord(REMAPS, RemapFilePathEntrySchema, record);
      return remapType === LINKED ? [remapId] : [];
    }),
  );
  if (ids.size === 0) return [];
  return decodeImage(FILES, "files", requireFile(files, FILES)).flatMap((record) => {
    const { id, reg } = decodeRecord(FILES, NamedFileEntrySchema, record);
    if (!ids.has(id) || reg === undefined) return [];
    const path = LinkPathSchema.safeParse(reg.name);
    if (!path.success) throw imageError(FILES, "a link of CRIU's has no usable path");
    return [path.data];
  });
}

/** Hard links that CRIU has made in the source's file system, and that the destination's must have, too. */
import * as z from "zod/mini";

/** More of them need more requests than anybody has seen. */
const MOST_LINKS = 4096;
const PATH_MAX = 4096;

/** Absolute, in the container; no part of it is "." or "..". */
const PathSchema = z
  .string()
  .check(z.maxLength(PATH_MAX), z.regex(/^(\/([^./\0][^/\0]*|\.[^./\0][^/\0]*|\.\.[^/\0]+))+$/));
/** As CRIU names it (criu/files-reg.c, create_link_remap). */
export const LinkPathSchema = PathSchema.check(z.regex(/\/link_remap\.\d+$/));

export const LinkPathsSchema = z.array(LinkPathSchema).check(z.maxLength(MOST_LINKS));
/** A link, and another name of the same file. */
export const LinksSchema = z
  .array(z.object({ link: LinkPathSchema, of: PathSchema }))
  .check(z.maxLength(MOST_LINKS));

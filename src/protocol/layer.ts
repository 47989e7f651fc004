/** How a container's own files travel: writable layer, named volumes and log, in one stream of several parts. */
import * as z from "zod/mini";

const uint = z.int().check(z.minimum(0));

/**
 * `first`: all of it, while the container runs and changes it. `rest`: after the freeze, what the first pass does not have. `whole`: after
 * the freeze, as if there had been no first pass.
 */
export const LayerPassSchema = z.enum(["first", "rest", "whole"]);
export type LayerPass = z.infer<typeof LayerPassSchema>;

/** The parts in their order, bytes. */
export const LayerPartsSchema = z.object({
  /** What is not said by an archive: what must not be there any more, and sockets (native/guest/incoming.c). */
  changes: uint,
  /** What differs in large files that a first pass has brought (native/guest/blocks.c). */
  blocks: uint,
  /** A tar archive. */
  archive: uint,
  /** Of the log. */
  log: uint,
  /** Whether the log begins here; else this goes on where an earlier pass ended. */
  logBegins: z.boolean(),
  /** In a first pass, the names of large files, of which the other side says what it has (native/guest/digest.c). */
  large: uint,
});
export type LayerParts = z.infer<typeof LayerPartsSchema>;

export const layerBytes = ({ changes, blocks, archive, log, large }: LayerParts): number =>
  changes + blocks + archive + log + large;

/** Digests of 4 TiB. Without them files are sent as a whole. */
export const MOST_DIGEST_BYTES = 1024 ** 3;

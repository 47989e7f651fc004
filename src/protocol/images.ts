/** Files of CRIU's image directories, as the host and an agent speak of them. */
import * as z from "zod/mini";

const uint = z.int().check(z.minimum(0));

/** A file of an image directory; contents follow as one byte stream, in list order. */
export const ImageFileSchema = z.object({
  name: z.string().check(z.regex(/^[A-Za-z0-9][A-Za-z0-9_.-]*$/)),
  bytes: uint,
});
export type ImageFile = z.infer<typeof ImageFileSchema>;

/** An image file that an agent is to keep mapped from that page (address / 4096) on, which is the same on both sides. */
export const HeldFileSchema = z.object({ ...ImageFileSchema.shape, page: uint });
export type HeldFile = z.infer<typeof HeldFileSchema>;
/** The `nsPid` of the process that does. */
export const HOLDER_TASK = 1;

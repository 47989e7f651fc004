/** Memory that a destination faults in before the container is frozen, and hands over to the restored tasks (native/criu/handover.h). */
import * as z from "zod/mini";

const uint = z.int().check(z.minimum(0));
/** Address / 4096 with five-level page tables. */
const PageNumberSchema = uint.check(z.maximum(2 ** 44));

/** As MAX_STAGES in native/criu/handover.h. */
export const MAX_STAGED_MAPPINGS = 256;
/** Of all mappings; native/criu/stage.c has room for twice as many. */
export const MAX_STAGED_FILLS = 8192;

/**
 * Whether a mapping gets huge pages: as the kernel does by itself; because madvise(2) asked for them or refused them; or not, because
 * the process has them off (PR_SET_THP_DISABLE). In the order of enum thp in native/criu/stage.c.
 */
export const hugePageWishes = ["default", "asked", "refused", "off"] as const;

/** Anonymous private memory of one task. Pages are numbered by virtual address / 4096. */
export const StagedMappingSchema = z.object({
  nsPid: uint,
  /** With room around the mapping, should it have grown by the time of the freeze. */
  page: PageNumberSchema,
  pages: PageNumberSchema,
  /** Whether it counts as memory that is promised (MAP_NORESERVE): the restored mapping must be of the same kind. */
  commit: z.enum(["reserve", "noreserve"]),
  hugePages: z.enum(hugePageWishes),
  /** What of the mapping is in huge pages, bytes. */
  hugeBytes: uint,
  /** What is faulted in: what the running container has in memory. Ascending. */
  fills: z
    .array(z.object({ page: PageNumberSchema, pages: PageNumberSchema }))
    .check(z.maxLength(MAX_STAGED_FILLS)),
});
export type StagedMapping = z.infer<typeof StagedMappingSchema>;

export const StagedMappingsSchema = z.array(StagedMappingSchema).check(z.maxLength(MAX_STAGED_MAPPINGS));

/** File among the images that says which mapping gets what (native/criu/plan.c). */
export const HANDOVER_FILE = "mwarp-handover";

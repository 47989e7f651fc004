/** What became of CRIU's test programs: the file that `make zdtm` writes and the support matrix is made from. */
import * as z from "zod/mini";

export const ProgramResultSchema = z.object({
  name: z.string(),
  /**
   * "moved": there and back, then it verified. "refused": by preflight, it ran on. "failed": anything else that a move came to.
   * "unfit": it was not moved, because it cannot be built, does not start in a container, or is for something else.
   */
  outcome: z.enum(["moved", "refused", "failed", "unfit"]),
  /** Why it was not moved. */
  text: z.string(),
  profile: z.enum(["ordinary", "privileged"]),
  /** What stock runc and CRIU did with the same container in one VM; null where nobody asked. */
  plain: z.nullable(
    z.object({
      outcome: z.enum(["restored", "not dumped", "not restored", "not verified", "unmoved"]),
      text: z.string(),
    }),
  ),
});
export type ProgramResult = z.infer<typeof ProgramResultSchema>;

export const ZdtmResultsSchema = z.object({
  criu: z.string(),
  runc: z.string(),
  kernel: z.string(),
  programs: z.array(ProgramResultSchema),
});
export type ZdtmResults = z.infer<typeof ZdtmResultsSchema>;

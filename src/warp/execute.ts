/** Carries a plan out, inside the stun: buildTable -> buildExtents -> plan -> execute. */
import { MwarpError } from "../errors.js";
import type { ByteCount } from "../units.js";
import type { CompletedExchange, FrameExchanger, PageCopier } from "./backend.js";
import type { ExchangePlan } from "./planner.js";

export interface ExecutedPlan {
  readonly copiedBytes: ByteCount;
  /** Null when nothing was remapped. */
  readonly exchange: CompletedExchange | null;
}

/**
 * Copies first: a source frame wanted by several pages is read for all but one of them before it is exchanged away.
 * When the copy fails nothing was exchanged; when the exchange fails it has undone itself.
 */
export async function execute(
  plan: ExchangePlan,
  backends: {
    readonly copier: PageCopier;
    /** Null for a VM without the preloaded library: then the plan must not remap. */
    readonly exchanger: FrameExchanger | null;
    readonly signal?: AbortSignal;
  },
): Promise<ExecutedPlan> {
  const { copier, exchanger, signal } = backends;
  if (plan.remap.count > 0 && exchanger === null) {
    throw new MwarpError("MWARP_E_INTERNAL", "the plan remaps frames, but a VM has no memory library");
  }
  const copiedBytes = await copier.copy(plan.copy, signal);
  if (plan.remap.count === 0 || exchanger === null) return { copiedBytes, exchange: null };
  return { copiedBytes, exchange: await exchanger.exchange(plan.remap, signal) };
}

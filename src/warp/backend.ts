/** What carries a plan out: one part moves bytes, the other frames. */
import type { ByteCount } from "../units.js";
import type { Extents } from "./extent-list.js";

export interface PageCopier {
  /**
   * Copies the source frames' bytes into the destination frames. Changes nothing of the source and needs no undo: the
   * destination's frames are nobody's before the commit.
   * Throws MWARP_E_WARP; MWARP_E_CANCELLED between pieces when `signal` fires.
   */
  copy(extents: Extents, signal?: AbortSignal): Promise<ByteCount>;
}

export interface FrameExchanger {
  /**
   * Exchanges the frames of the extents between the two VMs: all or none.
   * Throws MWARP_E_WARP when everything is as before; MWARP_E_NEEDS_RECOVERY when it could not be put back.
   */
  exchange(extents: Extents, signal?: AbortSignal): Promise<CompletedExchange>;
}

/** A finished exchange, while both VMs are still paused. */
export interface CompletedExchange {
  readonly pages: number;
  /** Puts every frame back; only inside the same stun. Throws MWARP_E_NEEDS_RECOVERY when it cannot. */
  undo(): Promise<void>;
  /** Lets go of what the undo needed; after it there is no undo. Errors of closing are of no consequence to memory. */
  release(): Promise<void>;
}

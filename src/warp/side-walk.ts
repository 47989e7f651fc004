/** What the thread of a stun and the one that walks beside it (side-walker.ts, side-walk-main.ts) tell each other. */
import type { WantedPages } from "./page-ranges.js";
import type { WalkOutput } from "./pagewalk.js";
import type { GuestView } from "./physical-memory.js";

/** Whose memory the thread reads, from its start on. */
export interface SideWalkGuest {
  readonly pid: number;
  readonly layout: GuestView["layout"];
}

/** One walk. All that is written to is shared, and belongs to this walk alone. */
export interface SideWalkRequest {
  readonly guest: Omit<GuestView, "memory">;
  readonly wanted: WantedPages;
  readonly out: WalkOutput;
  /** [WalkState, table pages read] */
  readonly control: Int32Array;
}

/** Goes from `asked` to `walking` or `takenBack`, whoever is first; then to `done` or `failed`. */
export const WalkState = { asked: 0, walking: 1, takenBack: 2, done: 3, failed: 4 } as const;

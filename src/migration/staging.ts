/** Strategy `staged`: what the destination is to have faulted in before the freeze, and whether that is worth it. */
import type { MigrationRequest } from "../protocol/migration.js";
import type { StagedMapping } from "../protocol/stage.js";
import { MIB, PAGE_BYTES } from "../units.js";
import type { MigrationClock } from "./clock.js";
import type { Checked } from "./preflight.js";
import type { Tally } from "./report.js";

/** Time limits, ms. Nobody stands still meanwhile. */
const LOOK_MS = 30_000;
const STAGE_MS = 150_000;
/** Less is populated sooner than it is handed over. */
const LEAST_BYTES = 8 * MIB;

/** What is needed of a migration's context. */
interface Context {
  readonly id: string;
  readonly checked: Checked;
  readonly signal: AbortSignal;
  readonly request: Pick<MigrationRequest, "strategy" | "method">;
  readonly tally: Tally;
  readonly clock: MigrationClock;
  readonly onNote: (message: string) => void;
  staged: readonly StagedMapping[];
}

export const fillPages = (mappings: readonly StagedMapping[]): number =>
  mappings.reduce((sum, { fills }) => sum + fills.reduce((pages, fill) => pages + fill.pages, 0), 0);

/** What is to be staged; none when everything is to be populated. */
export async function chooseStage(context: Context): Promise<readonly StagedMapping[]> {
  const { request, checked, tally } = context;
  tally.strategy = "eager";
  if (request.strategy === "eager") return [];
  const { mappings } = await checked.sourceAgent.call(
    "source.stageable",
    { migration: context.id },
    { signal: context.signal, timeoutMs: LOOK_MS },
  );
  const worth = request.strategy === "staged" || fillPages(mappings) * PAGE_BYTES >= LEAST_BYTES;
  return worth ? mappings : [];
}

/** Until the destination has it, or has not: then all is populated while the container stands still, and that is said. */
export async function awaitStaged(context: Context, mappings: readonly StagedMapping[]): Promise<void> {
  const { pages, reason } = await context.checked.destinationAgent.call(
    "destination.staged",
    { migration: context.id },
    { signal: context.signal, timeoutMs: STAGE_MS },
  );
  if (reason !== null) context.onNote(`nothing is staged: ${reason}`);
  if (pages === 0) return;
  context.tally.strategy = "staged";
  context.tally.staged = pages;
  context.staged = mappings;
}

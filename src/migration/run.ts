/** One migration from preflight to its report. Owns the order of things; what each thing does lies in methods/. */
import { dirname } from "node:path";
import { MwarpError, toMwarpError } from "../errors.js";
import type { MigrationMethod, MigrationReport, MigrationRequest, Phase } from "../protocol/migration.js";
import type { CostModel } from "../warp/cost-model.js";
import { MigrationClock } from "./clock.js";
import { DeadMan } from "./dead-man.js";
import { Journal, type VmmIdentity } from "./journal.js";
import type { OpenMigration } from "./journals.js";
import { limits, resumeDestination, type StepContext } from "./methods/common.js";
import { migrateCold, migratePostcopy, migratePrecopy } from "./methods/over-network.js";
import { callAgent, retireBoth } from "./methods/retire.js";
import { migrateWarp } from "./methods/warp.js";
import type { MigrationVm, MigrationWorld } from "./ports.js";
import { type Checked, preflight, Refusal } from "./preflight.js";
import { buildReport, emptyTally, type Tally } from "./report.js";
import { StepRunner, type UndoActions } from "./runner.js";
import type { StunnedVms } from "./stun-end.js";
import { saveTable } from "./table-file.js";
import { timedAgent } from "./timed-agent.js";
import { Unsettled } from "./unsettled.js";

export interface RunInput {
  readonly id: string;
  readonly request: MigrationRequest;
  readonly world: MigrationWorld;
  readonly journalPath: string;
  /** Asked for before the freeze: the first time, a measurement takes a second. */
  readonly costs: () => Promise<CostModel>;
  readonly startedAt: string;
  /** Migrations that are not at their end and run no more. */
  readonly unsettled: readonly OpenMigration[];
  /** Command that starts a daemon like this one. */
  readonly restart: readonly [string, ...string[]];
  /** Cancel or time limit; its reason is the MwarpError that is reported. Without effect after the commit. */
  readonly signal: AbortSignal;
  /** The container is about to stand still. */
  readonly onFreeze: () => void;
  readonly onPhase: (phase: Phase, elapsedMs: number) => void;
  readonly onCommitted: (elapsedMs: number) => void;
  readonly onNote: (message: string) => void;
}

/** Each runs to the commit; what is left is the same for all of them. */
const methods: Readonly<
  Record<
    MigrationMethod,
    (run: StepRunner, context: StepContext, costs: () => Promise<CostModel>) => Promise<void>
  >
> = { warp: migrateWarp, cold: migrateCold, precopy: migratePrecopy, postcopy: migratePostcopy };

interface Ending {
  readonly outcome: MigrationReport["outcome"];
  readonly error: MwarpError | null;
  readonly phase: Phase;
}

/** Never throws: whatever happens ends in a report. */
export async function runMigration(input: RunInput): Promise<MigrationReport> {
  const clock = new MigrationClock();
  const tally = emptyTally();
  let from = "";
  let ending: Ending;
  clock.enter("preflight");
  input.onPhase("preflight", 0);
  try {
    const checked = await preflight(input.world, input.request, input.unsettled, input.signal);
    from = checked.source.endpoint.name;
    ending = await migrate(input, checked, clock, tally);
  } catch (error) {
    const reason = input.signal.aborted ? toMwarpError(input.signal.reason) : toMwarpError(error);
    if (error instanceof Refusal) from = error.from ?? "";
    // Nothing of the container was changed yet, whatever it was that failed.
    const outcome = input.signal.aborted ? "aborted" : "refused";
    ending = { outcome, error: reason, phase: "preflight" };
  }
  return buildReport({
    id: input.id,
    request: input.request,
    from,
    startedAt: input.startedAt,
    outcome: ending.outcome,
    error: ending.error === null ? null : { error: ending.error, phase: ending.phase },
    clock,
    tally,
  });
}

async function migrate(
  input: RunInput,
  checked: Checked,
  clock: MigrationClock,
  tally: Tally,
): Promise<Ending> {
  const journal = Journal.create(input.journalPath, {
    id: input.id,
    container: input.request.container,
    from: checked.source.endpoint.name,
    to: checked.destination.endpoint.name,
    method: input.request.method,
    vms: { from: identity(checked.source), to: identity(checked.destination) },
    boots: { from: checked.sourceInfo.bootId, to: checked.destinationInfo.bootId },
  });
  const deadMan = DeadMan.start({
    journalPath: input.journalPath,
    vms: [checked.source.endpoint, checked.destination.endpoint],
    stun: stunnedVms(checked),
    restart: input.restart,
  });
  const runner = new StepRunner(journal, clock, input.signal, {
    onPhase: (phase) => input.onPhase(phase, clock.elapsed()),
    onCommitted: () => input.onCommitted(clock.elapsed()),
    onNote: input.onNote,
  });
  const context: StepContext = {
    id: input.id,
    request: input.request,
    checked: {
      ...checked,
      sourceAgent: timedAgent(checked.sourceAgent, clock),
      destinationAgent: timedAgent(checked.destinationAgent, clock),
    },
    clock,
    signal: input.signal,
    tally,
    onFreeze: input.onFreeze,
    onNote: input.onNote,
    deadMan,
    pokes: [],
    staged: [],
    connections: [],
    layerAhead: false,
    table: null,
  };
  const channelBefore = channelBytes(checked);
  try {
    const failure = await attempt(
      runner,
      () => methods[input.request.method](runner, context, input.costs),
      input.signal,
    );
    if (failure !== null) {
      // The VMs may stand still with memory that is neither here nor there, or nobody knows who has the container.
      if (failure instanceof Unsettled) return { outcome: "aborted", error: failure, phase: runner.phase };
      if (!runner.committed) return await rollBack(runner, checked, clock, input.id, failure);
      input.onNote(`after the commit: ${failure.message}`);
    }
    let tries = 0;
    const resumeError = await runner.forward("resume", async () => {
      if (failure !== null || tries++ > 0) await letGoOn(checked);
      await resumeDestination(context);
    });
    if (resumeError !== null) return needsRecovery(resumeError, runner.phase);
    keepTable(input, context);
    const retireError = await runner.forward("retire", () =>
      retireBoth({
        id: input.id,
        method: input.request.method,
        sourceBoot: checked.sourceInfo.bootId,
        source: checked.source,
        destination: checked.destination,
      }),
    );
    if (retireError?.code === "MWARP_E_CONTAINER_LOST") {
      runner.lose();
      return { outcome: "committed", error: retireError, phase: runner.phase };
    }
    if (retireError !== null) return needsRecovery(retireError, runner.phase);
    return { outcome: "committed", error: null, phase: "retire" };
  } finally {
    tally.channelBytes = channelBytes(checked) - channelBefore;
    deadMan.dismiss();
    journal.close();
  }
}

function stunnedVms({ source, destination, layouts }: Checked): StunnedVms | null {
  if (layouts === null) return null;
  return {
    source: { endpoint: source.endpoint, layout: layouts.source },
    destination: { endpoint: destination.endpoint, layout: layouts.destination },
  };
}

/** The container runs by now. A table that cannot be kept is no reason to call anything failed. */
function keepTable(input: RunInput, { table }: StepContext): void {
  if (table === null) return;
  try {
    saveTable(dirname(input.journalPath), table);
  } catch (error) {
    input.onNote(`the table could not be kept: ${toMwarpError(error).message}`);
  }
}

const identity = ({ endpoint: { pid, startTime } }: MigrationVm): VmmIdentity => ({ pid, startTime });

/** Runs the method; a failure that a cancel or time limit brought about is reported as that, not as its symptom. */
async function attempt(
  runner: StepRunner,
  body: () => Promise<void>,
  signal: AbortSignal,
): Promise<MwarpError | null> {
  try {
    await body();
    return null;
  } catch (error) {
    if (error instanceof Unsettled) return error;
    return toMwarpError(signal.aborted && !runner.committed ? signal.reason : error);
  }
}

async function rollBack(
  runner: StepRunner,
  checked: Checked,
  clock: MigrationClock,
  migration: string,
  failure: MwarpError,
): Promise<Ending> {
  const phase = runner.phase;
  await letGoOn(checked);
  const errors = await runner.rollBack(
    failure.message,
    undoActions(checked, migration, () => clock.runsAgain()),
  );
  const [first] = errors;
  return { outcome: "aborted", error: first === undefined ? failure : incomplete(failure, first), phase };
}

/** Neither VM stays paused because a stun was cut short; one that is gone or mute is the undo's affair. */
async function letGoOn({ source, destination }: Checked): Promise<void> {
  const signal = AbortSignal.timeout(limits.quick);
  await Promise.allSettled([source.ensureRunning(signal), destination.ensureRunning(signal)]);
}

/** What takes a migration back, on each side. */
function undoActions(
  vms: Pick<Checked, "source" | "destination">,
  migration: string,
  onSourceRuns: () => void,
): UndoActions {
  return {
    abortSource: async () => {
      await askRunning(vms.source, "source.abort", migration);
      onSourceRuns();
    },
    abortDestination: () => askRunning(vms.destination, "destination.abort", migration),
  };
}

/** A VM whose `stop` came too late for the stun may have come to stand still since. */
async function askRunning(
  vm: MigrationVm,
  method: "source.abort" | "destination.abort",
  migration: string,
): Promise<void> {
  await vm.ensureRunning(AbortSignal.timeout(limits.quick));
  await callAgent(vm, method, migration);
}

function needsRecovery(cause: MwarpError, phase: Phase): Ending {
  return {
    outcome: "committed",
    error: recoveryError(`the destination owns the container, but: ${cause.message}`, cause),
    phase,
  };
}

const incomplete = (failure: MwarpError, undo: MwarpError): MwarpError =>
  recoveryError(`${failure.message}; and the rollback could not be finished: ${undo.message}`, failure);

function recoveryError(message: string, cause: MwarpError): MwarpError {
  return new MwarpError("MWARP_E_NEEDS_RECOVERY", message, { cause, details: cause.details });
}

/** Bytes over both agents' channels so far. */
const channelBytes = ({ sourceAgent, destinationAgent }: Checked): number =>
  [sourceAgent, destinationAgent].reduce(
    (sum, { channelBytes: { sent, received } }) => sum + sent + received,
    0,
  );

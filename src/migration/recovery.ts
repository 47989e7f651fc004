/**
 * Recovery: drives every migration that its daemon left open to exactly one owner, by the journal's word alone.
 *
 * Before the commit the source owns the container: the destination is cleared and the source is thawed. After it the
 * destination does: it is thawed, and the source is cleared. The owner is served first and does not wait for the other
 * side; a VM that has ended has nothing to clear. All of it is idempotent: recovery may be cut short and run again.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { isMwarpError, MwarpError, toMwarpError } from "../errors.js";
import type { RecoveryAction } from "../protocol/api.js";
import { isAlive } from "../vm/process.js";
import { type ExchangedVm, takeBackExchange } from "./exchange-recovery.js";
import { type JournalContents, readJournal, type VmmIdentity } from "./journal.js";
import type { JournalStore } from "./journals.js";
import { limits } from "./methods/common.js";
import { callAgent, hasRebooted, retireBoth } from "./methods/retire.js";
import type { MigrationVm, MigrationWorld } from "./ports.js";
import { RecoveryJournal } from "./recovery-journal.js";
import { UNDO_PATIENCE_MS } from "./runner.js";
import { isTerminal, owner, stateMeaning } from "./states.js";
import { withJournal } from "./stun-end.js";

/** A side of the migration: its VM, or null when that VM has ended. */
interface Sides {
  readonly source: MigrationVm | null;
  readonly destination: MigrationVm | null;
}

interface Open {
  readonly id: string;
  readonly contents: JournalContents;
  readonly journal: RecoveryJournal;
  readonly signal: AbortSignal;
}

/** @param running ids this daemon itself is working on; they are left alone */
export async function recoverAll(
  world: MigrationWorld,
  journals: JournalStore,
  running: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<RecoveryAction[]> {
  const actions: RecoveryAction[] = [];
  for (const id of journals.ids()) {
    if (running.has(id)) continue;
    const action = await settle(world, journals.path(id), id, signal);
    if (action !== null) actions.push(action);
  }
  return actions;
}

/** A helper that is just ending this migration's stun is waited for. */
async function settle(
  world: MigrationWorld,
  path: string,
  id: string,
  signal: AbortSignal,
): Promise<RecoveryAction | null> {
  try {
    return await withJournal(path, signal, () => recoverOne(world, path, id, signal));
  } catch (error) {
    return pending(id, "?", toMwarpError(error).message);
  }
}

async function recoverOne(
  world: MigrationWorld,
  path: string,
  id: string,
  signal: AbortSignal,
): Promise<RecoveryAction | null> {
  let contents: JournalContents | null;
  try {
    contents = readJournal(path);
  } catch (error) {
    return pending(id, "?", toMwarpError(error).message);
  }
  if (contents === null || isTerminal(contents.state)) return null;
  const { head } = contents;
  const journal = new RecoveryJournal(path, contents);
  try {
    const sides = {
      source: find(world, head.from, head.vms.from),
      destination: find(world, head.to, head.vms.to),
    };
    const open = { id, contents, journal, signal };
    const action =
      owner(contents.state) === "destination" ? await goForward(open, sides) : await goBack(open, sides);
    return journal.failure === null ? action : { ...action, ...unwritten(action, journal.failure) };
  } catch (error) {
    const { state } = journal;
    const message = `${toMwarpError(error).message} (state ${state}: ${stateMeaning[state]})`;
    return pending(id, head.container, message);
  } finally {
    journal.close();
  }
}

/** What was done stands; as the journal does not say so, all of it is done once more later. */
const unwritten = (
  done: RecoveryAction,
  failure: MwarpError,
): Pick<RecoveryAction, "outcome" | "message"> => ({
  outcome: "pending",
  message: `${done.message}; ${failure.message}`,
});

/**
 * The very VM of the journal, whatever it is called now; null when it has ended. One of the same name that was started later is
 * another VM.
 * @throws MWARP_E_VM_UNKNOWN for one that lives and that nobody has attached: what it holds of the container is not lost
 */
function find(world: MigrationWorld, name: string, identity: VmmIdentity): MigrationVm | null {
  for (const known of world.vmNames()) {
    const vm = world.vm(known);
    if (vm === undefined || vm.isGone()) continue;
    if (vm.endpoint.pid === identity.pid && vm.endpoint.startTime === identity.startTime) return vm;
  }
  if (!isAlive(identity)) return null;
  throw new MwarpError(
    "MWARP_E_VM_UNKNOWN",
    `${name} (pid ${identity.pid}) runs, but is not attached any more`,
    {
      hint: "Attach it again (mwarp vm attach); then: mwarp recover.",
    },
  );
}

async function goForward(open: Open, { source, destination }: Sides): Promise<RecoveryAction> {
  const { id, contents, journal, signal } = open;
  const { head } = contents;
  if (destination !== null) await destination.ensureRunning(signal);
  if (destination === null || (await hasRebooted(destination, head.boots?.to))) {
    if (source !== null) await clear(source, "source.retire", id, signal);
    return lost(open, head.to);
  }
  if (contents.state === "committed") {
    await resume(destination, open);
    journal.enter("resumed");
  } else {
    // Where it runs this changes nothing; an agent that only said so is asked again.
    await unlessForgotten(() => resume(destination, open));
  }
  // A source that cannot be asked to go on holds the destination up for this moment only; to retire it fails by itself.
  if (source !== null) await tried(() => source.ensureRunning(signal));
  const ends = { id, method: head.method, sourceBoot: head.boots?.from, source, destination };
  const ended = await tried(() => retireBoth(ends));
  if (ended?.code === "MWARP_E_CONTAINER_LOST") return lost(open, head.from);
  if (ended !== null) throw ended;
  journal.enter("retired");
  return settled(open, head.to, "committed");
}

async function resume(destination: MigrationVm, { id, contents }: Open): Promise<void> {
  const agent = await destination.agent();
  const pokes = [...contents.pokes];
  await agent.call(
    "destination.resume",
    { migration: id, pokes, connections: [] },
    { timeoutMs: limits.quick },
  );
}

/** A guest forgets the oldest migrations that it has finished (record.ts). */
async function unlessForgotten(body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    if (!isMwarpError(error, "MWARP_E_MIGRATION_UNKNOWN")) throw error;
  }
}

async function goBack(open: Open, { source, destination }: Sides): Promise<RecoveryAction> {
  const { id, contents, journal, signal } = open;
  const { head } = contents;
  if (contents.exchanging && contents.state !== "aborting") {
    const vms = [await exchanged(source, signal), await exchanged(destination, signal)] as const;
    await takeBackExchange(journal.path, ...vms, signal);
  }
  if (contents.state !== "aborting") journal.enter("aborting");
  const clearing =
    destination === null
      ? Promise.resolve(null)
      : tried(() => clear(destination, "destination.abort", id, signal));
  // First the destination; but one that does not answer holds the source up only for a moment (see StepRunner.rollBack).
  await Promise.race([clearing, sleep(UNDO_PATIENCE_MS, null, { ref: false })]);
  if (source !== null) await source.ensureRunning(signal);
  if (source === null || (await hasRebooted(source, head.boots?.from))) {
    const failure = await clearing;
    if (failure !== null) throw failure;
    return lost(open, head.from);
  }
  await clear(source, "source.abort", id, signal);
  const cleared = await clearing;
  if (cleared !== null) {
    const message = `${head.container} runs on ${head.from}; ${head.to} could not be cleared: ${cleared.message}`;
    return { ...pending(id, head.container, message), vm: head.from };
  }
  journal.enter("aborted");
  return settled(open, head.from, "aborted");
}

async function exchanged(vm: MigrationVm | null, signal: AbortSignal): Promise<ExchangedVm | null> {
  if (vm === null) return null;
  const backing = await vm.memoryBacking(signal);
  if (backing.kind === "shared-memfd") return { endpoint: vm.endpoint, layout: backing.layout };
  throw new MwarpError("MWARP_E_NEEDS_RECOVERY", `${vm.endpoint.name}: ${backing.reason}`);
}

async function clear(
  vm: MigrationVm,
  method: "source.abort" | "source.retire" | "destination.abort",
  id: string,
  signal: AbortSignal,
): Promise<void> {
  await vm.ensureRunning(signal);
  await callAgent(vm, method, id);
}

async function tried(body: () => Promise<void>): Promise<MwarpError | null> {
  try {
    await body();
    return null;
  } catch (error) {
    return toMwarpError(error);
  }
}

function settled({ id, contents }: Open, vm: string, outcome: "committed" | "aborted"): RecoveryAction {
  const { container } = contents.head;
  return { migration: id, container, vm, outcome, message: `${container} runs on ${vm}` };
}

function lost({ id, contents, journal }: Open, vm: string): RecoveryAction {
  journal.enter("lost");
  const { container } = contents.head;
  const outcome = vm === contents.head.to ? "committed" : "aborted";
  return { migration: id, container, vm: null, outcome, message: `${container} ended with ${vm}` };
}

const pending = (migration: string, container: string, message: string): RecoveryAction => ({
  migration,
  container,
  vm: null,
  outcome: "pending",
  message,
});

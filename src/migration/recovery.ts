/**
 * Recovery: drives every migration that its daemon left open to exactly one owner, by the journal's word alone.
 *
 * Before the commit the source owns the container: the destination is cleared and the source is thawed. After it the
 * destination does: it is thawed, and the source is cleared. The owner is served first and does not wait for the other
 * side; a VM that has ended has nothing to clear. All of it is idempotent: recovery may be cut short and run again.
 */
import { MwarpError, toMwarpError } from "../errors.js";
import type { RecoveryAction } from "../protocol/api.js";
import { type ExchangedVm, takeBackExchange } from "./exchange-recovery.js";
import { Journal, type JournalContents, readJournal, type VmmIdentity } from "./journal.js";
import type { JournalStore } from "./journals.js";
import { callAgent, limits } from "./methods/common.js";
import type { MigrationVm, MigrationWorld } from "./ports.js";
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
  readonly journal: Journal;
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
  const sides = {
    source: find(world, head.from, head.vms.from),
    destination: find(world, head.to, head.vms.to),
  };
  const journal = Journal.reopen(path, contents);
  try {
    const open = { id, contents, journal, signal };
    return owner(contents.state) === "destination" ? await goForward(open, sides) : await goBack(open, sides);
  } catch (error) {
    const { state } = journal;
    const message = `${toMwarpError(error).message} (state ${state}: ${stateMeaning[state]})`;
    return pending(id, head.container, message);
  } finally {
    journal.close();
  }
}

/** The very VM of the journal, if it lives. One of the same name that was started later is another VM. */
function find(world: MigrationWorld, name: string, { pid, startTime }: VmmIdentity): MigrationVm | null {
  const vm = world.vm(name);
  if (vm === undefined || vm.isGone()) return null;
  return vm.endpoint.pid === pid && vm.endpoint.startTime === startTime ? vm : null;
}

async function goForward(open: Open, { source, destination }: Sides): Promise<RecoveryAction> {
  const { id, contents, journal } = open;
  if (destination === null) {
    if (source !== null) await callAgent(source, "source.retire", id);
    return lost(open, contents.head.to);
  }
  await destination.ensureRunning(open.signal);
  if (contents.state === "committed") {
    const agent = await destination.agent();
    const pokes = [...contents.pokes];
    await agent.call("destination.resume", { migration: id, pokes }, { timeoutMs: limits.quick });
    journal.enter("resumed", "recovered");
  }
  await callAgent(destination, "destination.finish", id);
  if (source !== null) {
    await source.ensureRunning(open.signal);
    await callAgent(source, "source.retire", id);
  }
  journal.enter("retired", "recovered");
  return settled(open, contents.head.to, "committed");
}

async function goBack(open: Open, { source, destination }: Sides): Promise<RecoveryAction> {
  const { id, contents, journal, signal } = open;
  if (contents.exchanging && contents.state !== "aborting") {
    const vms = [await exchanged(source, signal), await exchanged(destination, signal)] as const;
    await takeBackExchange(journal.path, ...vms, signal);
  }
  if (contents.state !== "aborting") journal.enter("aborting", "the daemon that ran it is gone");
  const cleared =
    destination === null ? null : await tried(() => clear(destination, "destination.abort", id, signal));
  if (source === null) {
    if (cleared !== null) throw cleared;
    return lost(open, contents.head.from);
  }
  await clear(source, "source.abort", id, signal);
  if (cleared !== null) {
    const message = `${contents.head.container} runs on ${contents.head.from}; ${contents.head.to} could not be cleared: ${cleared.message}`;
    return { ...pending(id, contents.head.container, message), vm: contents.head.from };
  }
  journal.enter("aborted", "recovered");
  return settled(open, contents.head.from, "aborted");
}

async function exchanged(vm: MigrationVm | null, signal: AbortSignal): Promise<ExchangedVm | null> {
  if (vm === null) return null;
  const backing = await vm.memoryBacking(signal);
  if (backing.kind === "shared-memfd") return { endpoint: vm.endpoint, layout: backing.layout };
  throw new MwarpError("MWARP_E_NEEDS_RECOVERY", `${vm.endpoint.name}: ${backing.reason}`);
}

async function clear(
  vm: MigrationVm,
  method: "source.abort" | "destination.abort",
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
  journal.enter("lost", `${vm} has ended`);
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

/**
 * Methods that send the pages over the VMs' network, through stock runc and CRIU, set up as an expert would: images lie on tmpfs,
 * nothing is compressed, and pages go straight from the dump to the destination's tmpfs through CRIU's page server.
 *
 * `cold`: all of them while the container stands still. `precopy`: in rounds while it runs, then the rest. `postcopy`: it runs on
 * the destination first, and they follow, those it asks for before the others (criu.org/Iterative_migration, /Lazy_migration).
 */
import { lazyBytes } from "../../criu/lazy.js";
import { MwarpError } from "../../errors.js";
import type { PageServer } from "../../protocol/agent.js";
import { PAGE_BYTES } from "../../units.js";
import type { StepRunner } from "../runner.js";
import {
  bulkMs,
  dumpSource,
  freezeSource,
  limits,
  prepareBoth,
  restoreDestination,
  type StepContext,
  sendImages,
} from "./common.js";
import { moveLastLayer, sendLayerAhead } from "./layer.js";
import { nextRound, type Round } from "./rounds.js";

const LOOK_EVERY_MS = 500;

export async function migrateCold(run: StepRunner, context: StepContext): Promise<void> {
  const server = await run.step("prepare", async () => {
    await prepareBoth(context);
    return startPageServer(context, { round: null, after: null });
  });
  await dumpAndRestore(run, context, server, null);
}

export async function migratePrecopy(run: StepRunner, context: StepContext): Promise<void> {
  const { server, rounds } = await run.step("prepare", async () => {
    await prepareBoth(context);
    const rounds = await copyWhileRunning(context);
    await sendLayerAhead(context);
    return { rounds, server: await startPageServer(context, { round: null, after: rounds }) };
  });
  await dumpAndRestore(run, context, server, rounds);
}

export async function migratePostcopy(run: StepRunner, context: StepContext): Promise<void> {
  await run.step("prepare", () => prepareBoth(context));
  await run.step("freeze", () => freezeSource(context));
  const dumped = await run.step("dump", () => dumpSource(context, { kind: "lazy" }));
  const pagesFrom = await run.step("transfer", async () => {
    await sendImages(context, dumped.files);
    await moveLastLayer(context);
    return context.checked.sourceAgent.call(
      "source.servePages",
      { migration: context.id },
      { signal: context.signal, timeoutMs: limits.quick },
    );
  });
  await run.step("restore", () => restoreDestination(context, pagesFrom));
  countNetwork(context, lazyBytes(dumped.files));
  await run.step("commit", async (commit) => {
    // From here on nothing else has them.
    await context.checked.destinationAgent.call(
      "destination.pagesCome",
      { migration: context.id },
      { signal: context.signal, timeoutMs: limits.quick },
    );
    commit();
  });
}

/** @param after the last round before; the pages that are as they were in it are not sent again */
async function dumpAndRestore(
  run: StepRunner,
  context: StepContext,
  server: PageServer,
  after: number | null,
): Promise<void> {
  await run.step("freeze", () => freezeSource(context));
  const dumped = await run.step("dump", () =>
    whileDestinationLives(context, (living) => dumpSource(living, { kind: "server", server, after })),
  );
  await run.step("transfer", async () => {
    await sendImages(context, dumped.files);
    await moveLastLayer(context);
  });
  const { pagesBytes } = await run.step("restore", () => restoreDestination(context, null));
  countNetwork(context, pagesBytes);
  await run.step("commit", async (commit) => commit());
}

/** Rounds until another one would not make the freeze shorter. Answers the number of the last. */
async function copyWhileRunning(context: StepContext): Promise<number> {
  const { tally, checked, id, signal } = context;
  const done: Round[] = [];
  for (let round: number | null = 1; round !== null; round = nextRound(done)) {
    const begun = performance.now();
    const server = await startPageServer(context, { round, after: round > 1 ? round - 1 : null });
    const { command } = await whileDestinationLives(context, (living) =>
      checked.sourceAgent.call(
        "source.preDump",
        { migration: id, round, server },
        { signal: living.signal, timeoutMs: limits.transfer + bulkMs(context) },
      ),
    );
    tally.commands.push({ vm: checked.source.endpoint.name, argv: command });
    const { bytes } = await checked.destinationAgent.call(
      "destination.received",
      { migration: id, round },
      { signal, timeoutMs: limits.transfer + bulkMs(context) },
    );
    const finished = { bytes, time_ms: performance.now() - begun };
    done.push(finished);
    tally.rounds.push(finished);
    countNetwork(context, bytes);
  }
  return done.length;
}

/** CRIU that sends to a VM which has ended would wait as long as TCP does, with the container in its hands. */
async function whileDestinationLives<T>(
  context: StepContext,
  work: (living: StepContext) => Promise<T>,
): Promise<T> {
  const { destination } = context.checked;
  const ended = new AbortController();
  const timer = setInterval(() => {
    if (destination.isGone())
      ended.abort(new MwarpError("MWARP_E_VM_UNREACHABLE", `${destination.endpoint.name} has ended`));
  }, LOOK_EVERY_MS);
  try {
    return await work({ ...context, signal: AbortSignal.any([context.signal, ended.signal]) });
  } catch (error) {
    throw ended.signal.aborted ? ended.signal.reason : error;
  } finally {
    clearInterval(timer);
  }
}

async function startPageServer(
  { checked, tally, id, signal }: StepContext,
  which: { round: number | null; after: number | null },
): Promise<PageServer> {
  const { server, command } = await checked.destinationAgent.call(
    "destination.pageServer",
    { migration: id, ...which },
    { signal, timeoutMs: limits.quick },
  );
  tally.commands.push({ vm: checked.destination.endpoint.name, argv: command });
  return server;
}

/** The pages went past the host: an agent says how much came. */
function countNetwork({ tally }: StepContext, bytes: number): void {
  tally.networkBytes += bytes;
  tally.imageBytes += bytes;
  // What was sent in a round and again later is one page of the container: the most that was sent at a time is nearest to it.
  tally.memoryBytes = Math.max(tally.memoryBytes, bytes);
  tally.memoryPages = Math.ceil(tally.memoryBytes / PAGE_BYTES);
  tally.copiedPages = Math.ceil(tally.networkBytes / PAGE_BYTES);
}

/**
 * Method `cold`: stock checkpoint and restore, set up as an expert would. Images lie on tmpfs, nothing is compressed, and
 * the pages go straight from the dump to the destination's tmpfs through CRIU's page server, over the VMs' network.
 */
import { PAGE_BYTES } from "../../units.js";
import type { StepRunner } from "../runner.js";
import {
  dumpSource,
  freezeSource,
  limits,
  moveLayer,
  prepareBoth,
  restoreDestination,
  type StepContext,
  sendImages,
} from "./common.js";

/** Runs to the commit; what is left is the same for all methods. */
export async function migrateCold(run: StepRunner, context: StepContext): Promise<void> {
  const pageServer = await run.step("prepare", async () => {
    await prepareBoth(context);
    return context.checked.destinationAgent.call(
      "destination.pageServer",
      { migration: context.id },
      { signal: context.signal, timeoutMs: limits.quick },
    );
  });
  await run.step("freeze", () => freezeSource(context));
  const dumped = await run.step("dump", () => dumpSource(context, pageServer));
  await run.step("transfer", async () => {
    await sendImages(context, dumped.files);
    await moveLayer(context);
  });
  const { pagesBytes } = await run.step("restore", () => restoreDestination(context));
  tallyPages(context, pagesBytes);
  await run.step("commit", async (commit) => commit());
}

/** The pages went past the host: the destination says how much came. */
function tallyPages({ tally }: StepContext, bytes: number): void {
  tally.memoryBytes = bytes;
  tally.memoryPages = Math.ceil(bytes / PAGE_BYTES);
  tally.copiedPages = tally.memoryPages;
  tally.imageBytes += bytes;
}

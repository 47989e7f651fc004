/**
 * A container's own files, from the source to the destination through the host: writable layer, named volumes, log. Most of them
 * while it still runs, so that what it waits for grows with what it changes and not with what it has.
 */
import { isMwarpError, MwarpError, toMwarpError } from "../../errors.js";
import type { LayerParts, LayerPass } from "../../protocol/layer.js";
import { layerBytes } from "../../protocol/layer.js";
import { ChunkCollector, inChunks } from "../chunks.js";
import type { StepContext } from "./common.js";
import { limits, mostBytes } from "./common.js";

export interface Layer {
  readonly pass: LayerPass;
  readonly parts: LayerParts;
  readonly bytes: Uint8Array;
}

/**
 * Before the freeze. What goes wrong in it because files change in a way that an archive does not hold costs no more than its time: the
 * whole of them goes when the container stands still.
 * @throws MWARP_E_NO_MEMORY when the destination has no room for them: it would not have any later
 */
export async function sendLayerAhead(context: StepContext): Promise<void> {
  try {
    const layer = await fetchLayer(context, "first");
    if (layer === null) return;
    const digests = await deliverLayer(context, layer);
    context.layerAhead = true;
    context.tally.layerAheadBytes = layer.bytes.byteLength;
    await tellKnown(context, digests);
  } catch (error) {
    context.signal.throwIfAborted();
    // A side that does not answer, or has no room, is no matter of files that change.
    if (!isMwarpError(error, "MWARP_E_RUNTIME")) throw error;
    context.onNote(`files are all sent while the container stands still: ${toMwarpError(error).message}`);
  }
}

/** After the freeze: what is not there yet. */
export async function fetchLastLayer(context: StepContext): Promise<Layer> {
  const layer = await fetchLayer(context, context.layerAhead ? "rest" : "whole");
  if (layer === null)
    throw new MwarpError("MWARP_E_PROTOCOL", "the agent has no files of a frozen container");
  context.tally.layerBytes = layer.bytes.byteLength;
  return layer;
}

async function fetchLayer(context: StepContext, pass: LayerPass): Promise<Layer | null> {
  const collector = new ChunkCollector(mostBytes(context));
  const { parts } = await context.checked.sourceAgent.call(
    "source.layer",
    { migration: context.id, pass },
    { signal: context.signal, timeoutMs: limits.transfer, onChunk: collector.onChunk },
  );
  if (parts === null) return null;
  const bytes = collector.take();
  if (layerBytes(parts) !== bytes.byteLength) {
    throw new MwarpError(
      "MWARP_E_PROTOCOL",
      `the agent announced ${layerBytes(parts)} bytes of files and sent ${bytes.byteLength}`,
    );
  }
  return { pass, parts, bytes };
}

/** Gives what the destination has by then of large files, of a first pass. */
export async function deliverLayer(context: StepContext, { pass, parts, bytes }: Layer): Promise<Uint8Array> {
  // They are a small part of the files that they are of.
  const collector = new ChunkCollector(pass === "first" ? bytes.byteLength : 0);
  await context.checked.destinationAgent.call(
    "destination.layer",
    { migration: context.id, pass, parts },
    {
      signal: context.signal,
      timeoutMs: limits.transfer,
      up: inChunks([bytes]),
      onChunk: collector.onChunk,
    },
  );
  return collector.take();
}

async function tellKnown(context: StepContext, digests: Uint8Array): Promise<void> {
  if (digests.byteLength === 0) return;
  await context.checked.sourceAgent.call(
    "source.known",
    { migration: context.id, bytes: digests.byteLength },
    { signal: context.signal, timeoutMs: limits.transfer, up: inChunks([digests]) },
  );
}

/** Through the host. */
export async function moveLastLayer(context: StepContext): Promise<void> {
  await deliverLayer(context, await fetchLastLayer(context));
}

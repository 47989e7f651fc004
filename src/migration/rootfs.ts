/** Brings the read-only lower layer of a container into a VM that does not have it yet. */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { MwarpError } from "../errors.js";
import { CHUNK_BYTES } from "../protocol/agent.js";
import type { AgentCaller } from "./ports.js";

const ASK_TIMEOUT_MS = 20_000;
/** A root file system of several GB through a virtio-serial port under TCG. */
const UPLOAD_TIMEOUT_MS = 600_000;

/**
 * Uploads the archive `file` unless the VM has it; the agent checks the digest before the layer becomes visible.
 * Returns the bytes that were sent.
 *
 * @throws MWARP_E_RUNTIME when the archive is needed and gone from the cache
 */
export async function deliverRootfs(
  agent: Pick<AgentCaller, "call">,
  digest: string,
  file: string,
  signal: AbortSignal,
): Promise<number> {
  const { present } = await agent.call("rootfs.has", { digest }, { signal, timeoutMs: ASK_TIMEOUT_MS });
  if (present) return 0;
  const found = await stat(file).catch((cause: unknown) => {
    throw new MwarpError(
      "MWARP_E_RUNTIME",
      `the archive of the container's root file system is gone: ${file}`,
      { hint: "`mwarp run` with the same --rootfs packs it again, under any container name.", cause },
    );
  });
  const up = createReadStream(file, { highWaterMark: CHUNK_BYTES });
  await agent.call("rootfs.put", { digest, bytes: found.size }, { signal, timeoutMs: UPLOAD_TIMEOUT_MS, up });
  return found.size;
}

/** Whether a VM's processors run, and letting them go on. */
import * as z from "zod/mini";
import { MwarpError } from "../errors.js";
import { QmpClient } from "./qmp.js";
import type { VmEndpoint } from "./types.js";

/** Limit for the QMP exchange, ms. */
const QMP_TIMEOUT_MS = 5000;

const StatusSchema = z.object({ status: z.string() });

/** A VM that a cut-off stun left paused goes on; one that runs is left alone. @throws MWARP_E_VM_UNREACHABLE */
export async function ensureRunning(endpoint: VmEndpoint, outer: AbortSignal): Promise<void> {
  const signal = AbortSignal.any([outer, AbortSignal.timeout(QMP_TIMEOUT_MS)]);
  using qmp = await QmpClient.open(endpoint.qmpSocket, { signal });
  const answer = StatusSchema.safeParse(await qmp.execute("query-status", {}, { signal }));
  if (!answer.success) throw new MwarpError("MWARP_E_VM_UNREACHABLE", "the VMM gave no status");
  if (answer.data.status === "paused") await qmp.execute("cont", {}, { signal });
}

/** The rounds of a pre-copy on the source: the container runs, and CRIU takes in what it has written since the last round. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { MwarpError } from "../../errors.js";
import { type AgentParams, type AgentResult, SLOWEST_BYTES_PER_MS } from "../../protocol/agent.js";
import { memoryBytes } from "../containers/cgroup.js";
import { jobStatus, startJob } from "../job.js";
import { timed } from "../log.js";
import { containerPaths, migrationPaths } from "../paths.js";
import { pollUntil } from "../process.js";
import { preDumpCommand } from "./command-lines.js";
import { failureDetails } from "./criu-log.js";
import { CriuWatch } from "./criu-watch.js";
import { saveRecord, sourceRecord } from "./record.js";

/** Below what the host waits (methods/over-network.ts), so that the reason comes from here. */
const ROUND_TIMEOUT_MS = 240_000;

/** `MWARP_E_DUMP` with CRIU's error lines. */
export async function preDump(
  params: AgentParams<"source.preDump">,
  signal: AbortSignal,
): Promise<AgentResult<"source.preDump">> {
  const record = await sourceRecord(params.migration, "prepared");
  const paths = migrationPaths(record.id);
  await mkdir(paths.round(params.round), { recursive: true });
  const command = preDumpCommand(record, params.round, params.server);
  // On file first: whatever becomes of this agent, an abort then waits for CRIU and sees to it that the container runs.
  await saveRecord({ ...record, step: "preDumping", sendsTo: params.server });
  await startJob(paths.job, command);
  const watch = new CriuWatch(paths.job);
  const bulk = await memoryBytes(containerPaths(record.name).cgroup);
  const status = await timed(`round ${params.round}`, () =>
    pollUntil(
      "runc checkpoint --pre-dump",
      async () => (await jobStatus(paths.job)) ?? (await watch.endOrphan()),
      { timeoutMs: ROUND_TIMEOUT_MS + bulk / SLOWEST_BYTES_PER_MS, signal },
    ),
  );
  if (status !== 0) {
    const details = await failureDetails(paths.job, join(paths.work, "dump.log"));
    throw new MwarpError("MWARP_E_DUMP", `runc checkpoint --pre-dump ended with ${status}`, { details });
  }
  await saveRecord({ ...record, step: "prepared", sendsTo: null });
  return { command };
}

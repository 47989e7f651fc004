/** The destination's end of a dump that sends its pages over the network: CRIU's page server, one for each round. */
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { MwarpError } from "../../errors.js";
import type { AgentParams, AgentResult } from "../../protocol/agent.js";
import { bridgeAddress } from "../containers/network.js";
import { jobRuns, jobStatus, startJob } from "../job.js";
import { type MigrationPaths, migrationPaths } from "../paths.js";
import { pollUntil } from "../process.js";
import { freePort, listens } from "../tcp-port.js";
import { pageServerCommand } from "./command-lines.js";
import { failureDetails } from "./criu-log.js";
import { pagesBytes } from "./images.js";
import { destinationRecord } from "./record.js";

const START_MS = 10_000;
/** From the end of the dump on: what is still on its way. */
const END_MS = 30_000;

export async function startPageServer(
  params: AgentParams<"destination.pageServer">,
  signal: AbortSignal,
): Promise<AgentResult<"destination.pageServer">> {
  const record = await destinationRecord(params.migration, "prepared");
  const paths = migrationPaths(record.id);
  const images = params.round === null ? paths.images : paths.round(params.round);
  await mkdir(images, { recursive: true });
  const server = { address: bridgeAddress(), port: await freePort() };
  const command = pageServerCommand(paths, images, params.after, server);
  await startJob(paths.pageServer, command);
  await pollUntil(
    "starting criu page-server",
    async () => {
      if ((await jobStatus(paths.pageServer)) !== null) throw await failed(paths, "ended at once");
      return (await listens(server.port)) ? true : null;
    },
    { timeoutMs: START_MS, everyMs: 20, signal },
  );
  return { server, command };
}

export async function received(
  params: AgentParams<"destination.received">,
  signal: AbortSignal,
): Promise<{ bytes: number }> {
  const record = await destinationRecord(params.migration, "prepared");
  const paths = migrationPaths(record.id);
  await pageServerEnds(paths, signal);
  return { bytes: await pagesBytes(paths.round(params.round)) };
}

/** `MWARP_E_RESTORE` when it ended for another reason than that it had all. None was started: nothing to wait for. */
export async function pageServerEnds(paths: MigrationPaths, signal: AbortSignal): Promise<void> {
  await pollUntil(
    "the end of criu page-server",
    async () => ((await jobRuns(paths.pageServer)) ? null : true),
    { timeoutMs: END_MS, signal },
  );
  const status = await jobStatus(paths.pageServer);
  if (status !== null && status !== 0) throw await failed(paths, `ended with ${status}`);
}

async function failed(paths: MigrationPaths, how: string): Promise<MwarpError> {
  const details = await failureDetails(paths.pageServer, join(paths.work, "page-server.log"));
  return new MwarpError("MWARP_E_RESTORE", `criu page-server ${how}`, { details });
}

/** Bytes that lie in all directories of page contents of this migration: what is held until the restore has read them. */
export async function heldBytes(paths: MigrationPaths): Promise<number> {
  const rounds = (await readdir(paths.dir)).filter((name) => /^round-\d+$/.test(name));
  const sizes = await Promise.all(
    [paths.images, ...rounds.map((name) => join(paths.dir, name))].map(pagesBytes),
  );
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

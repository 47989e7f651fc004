/** What this guest knows of a migration: on file, so that an agent that was restarted can finish or undo it. */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod/mini";
import { MwarpError } from "../../errors.js";
import { PageServerSchema, TaskSchema } from "../../protocol/agent.js";
import { RuntimeNameSchema } from "../../protocol/container.js";
import { readIfThere, writeAtomic } from "../files.js";
import type { Helper } from "../helper.js";
import { unmountBelow } from "../mounts.js";
import { MIGRATIONS_DIR, migrationPaths } from "../paths.js";
import { endHolder } from "./held-images.js";

const sourceSteps = [
  "prepared",
  "preDumping",
  "frozen",
  "dumping",
  "dumped",
  "retiring",
  "retired",
  "aborting",
  "aborted",
] as const;
const destinationSteps = [
  "preparing",
  "prepared",
  "restoring",
  "held",
  "resuming",
  "resumed",
  "finished",
  "aborting",
  "aborted",
] as const;

const common = {
  id: z.string(),
  name: z.string(),
  runtime: z._default(RuntimeNameSchema, "runc"),
  tasks: z.array(TaskSchema),
};
const RecordSchema = z.discriminatedUnion("side", [
  z.object({
    ...common,
    side: z.literal("source"),
    step: z.enum(sourceSteps),
    /** Method postcopy: where CRIU serves the pages once it was let past its post-dump hook. */
    serves: z.nullable(PageServerSchema),
    /** Where CRIU sends page contents to, while it does. */
    sendsTo: z.nullable(PageServerSchema),
  }),
  z.object({
    ...common,
    side: z.literal("destination"),
    step: z.enum(destinationSteps),
    /** Method postcopy: who serves its pages. */
    pagesFrom: z.nullable(PageServerSchema),
    /** Why the container ended here after the commit: pages that it needed never came. */
    lost: z.nullable(z.string()),
  }),
]);
export type MigrationRecord = z.infer<typeof RecordSchema>;
export type SourceRecord = Extract<MigrationRecord, { side: "source" }>;
export type DestinationRecord = Extract<MigrationRecord, { side: "destination" }>;

/** Finished migrations whose record is kept, so that a repeated last step is answered in order. */
const KEPT_RECORDS = 20;
const closed = new Set<string>(["retired", "aborted", "finished"]);

export async function loadRecord(id: string): Promise<MigrationRecord | null> {
  const text = await readIfThere(migrationPaths(id).record);
  return text === null ? null : RecordSchema.parse(JSON.parse(text));
}

export async function saveRecord(record: MigrationRecord): Promise<void> {
  await writeAtomic(migrationPaths(record.id).record, JSON.stringify(record));
}

const unknown = (id: string): MwarpError =>
  new MwarpError("MWARP_E_MIGRATION_UNKNOWN", `this VM knows no migration ${id}`);

/** The record of a migration that leaves this VM, in one of the `steps`. */
export async function sourceRecord(
  id: string,
  ...steps: readonly SourceRecord["step"][]
): Promise<SourceRecord> {
  const record = await loadRecord(id);
  if (record?.side !== "source") throw unknown(id);
  if (!steps.includes(record.step)) throw wrongStep(record, steps);
  return record;
}

/** The record of a migration that comes to this VM, in one of the `steps`. */
export async function destinationRecord(
  id: string,
  ...steps: readonly DestinationRecord["step"][]
): Promise<DestinationRecord> {
  const record = await loadRecord(id);
  if (record?.side !== "destination") throw unknown(id);
  if (!steps.includes(record.step)) throw wrongStep(record, steps);
  return record;
}

function wrongStep(record: MigrationRecord, steps: readonly string[]): MwarpError {
  return new MwarpError(
    "MWARP_E_PROTOCOL",
    `migration ${record.id} is ${record.step} in this VM, not ${steps.join(" or ")}`,
  );
}

/** Removes a migration's files but for its record, and the oldest records of closed ones. */
export async function clearFiles(id: string, helper: Helper): Promise<void> {
  const { dir } = migrationPaths(id);
  endHolder(id);
  // A CRIU that was killed leaves a mount in its work directory.
  await unmountBelow(dir, helper);
  for (const entry of await readdir(dir)) {
    // The verdicts stay: a hook that was slow to ask must not wait for ever.
    if (entry === "record.json" || entry.startsWith("verdict.")) continue;
    await rm(join(dir, entry), { recursive: true, force: true });
  }
}

export async function pruneRecords(): Promise<void> {
  const ids = (await readdir(MIGRATIONS_DIR)).sort();
  const done: string[] = [];
  for (const id of ids) {
    const record = await loadRecord(id);
    if (record && closed.has(record.step)) done.push(id);
  }
  for (const id of done.slice(0, Math.max(0, done.length - KEPT_RECORDS))) {
    await rm(migrationPaths(id).dir, { recursive: true, force: true });
  }
}

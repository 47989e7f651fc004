/** `mwarp inspect`: everything known of one migration. */
import type { MigrationRecord, MigrationTable } from "../../protocol/api.js";
import type { MigrationReport } from "../../protocol/migration.js";
import { PAGE_BYTES } from "../../units.js";
import { formatBytes, formatMs } from "../output/format.js";
import { failureLines, summaryLine } from "../output/report.js";
import { type Register, type Session, withJson } from "../session.js";
import { outcomeOf } from "./history.js";

export const registerInspect: Register = (program, session) => {
  withJson(program.command("inspect").description("show everything known of a migration"))
    .argument("<id>", "migration: id or unique prefix")
    .option("--table", "print its mWarp table: which page went from which frame to which")
    .action(async (wanted: string, options: { readonly table?: true }) => {
      const daemon = await session.daemon();
      if (options.table) return showTable(session, await daemon.migrationTable(wanted));
      const record = await daemon.migration(wanted);
      if (session.json) return session.document(record);
      await showRecord(session, record);
    });
};

/** Addresses as kernels print them: bytes, hexadecimal. */
async function showTable(session: Session, table: MigrationTable): Promise<void> {
  if (session.json) return session.document(table);
  const address = (page: number | null): string =>
    page === null ? "-" : `0x${(page * PAGE_BYTES).toString(16)}`;
  await session.table(
    ["TASK", "ADDRESS", "PAGES", "SOURCE PAGE", "TREATMENT", "SOURCE GPA", "DESTINATION GPA"],
    table.runs.map(({ task, page, pages, source_kind, treatment, source_frame, destination_frame }) => [
      String(task),
      address(page),
      String(pages),
      source_kind,
      treatment,
      address(source_frame),
      address(destination_frame),
    ]),
  );
}

async function showRecord(session: Session, record: MigrationRecord): Promise<void> {
  const { request, report } = record;
  const head = [
    ["id", record.id],
    ["container", request.container],
    ["route", `${record.from ?? "?"} -> ${request.to}`],
    ["method", [request.method, report?.backend, report?.strategy].filter(Boolean).join(", ")],
    ["outcome", outcomeOf(record)],
    ["started", record.startedAt],
  ];
  for (const [key, value] of head) session.print(`${`${key}:`.padEnd(12)}${value}`);
  if (record.logs !== null) session.print(`${"kept:".padEnd(12)}${record.logs}`);
  for (const event of record.events)
    if (event.event === "note") session.print(`${"note:".padEnd(12)}${event.message}`);
  if (record.recovery !== null) session.print(`${"recovered:".padEnd(12)}${record.recovery.message}`);
  if (report === null) return;
  session.print("");
  const reached = Object.entries(report.time_ms.phases).filter(([, ms]) => ms > 0);
  await session.table(
    ["PHASE", "TIME"],
    reached.map(([phase, ms]) => [phase, formatMs(ms)]),
  );
  const { memory, stun_ms: stun } = report;
  const parts = Object.entries(stun.parts).filter(([, ms]) => ms > 0);
  const breakdown =
    parts.length === 0
      ? ""
      : `, stuns: ${stun.times} (${parts.map(([part, ms]) => `${part} ${formatMs(ms)}`).join(", ")})`;
  const waits = Object.entries(report.time_ms.downtime_parts).filter(([, ms]) => ms > 0);
  if (waits.length > 0)
    session.print(
      `\ndowntime: ${formatMs(report.time_ms.downtime)} (${waits.map(([part, ms]) => `${part} ${formatMs(ms)}`).join(", ")})`,
    );
  session.print(
    `\nstun: source ${formatMs(stun.source)}, destination ${formatMs(stun.destination)}${breakdown}\n` +
      `memory: ${formatBytes(memory.bytes)}, ${memory.pages} pages (${memory.remapped_pages} remapped, ` +
      `${memory.copied_pages} copied, ${memory.shared_pages} shared) in ${memory.extents} extents\n` +
      imagesLine(memory) +
      `moved otherwise: ${formatBytes(memory.image_bytes)} of images; ${formatBytes(memory.channel_bytes)} through the channels`,
  );
  if (report.error === null) session.print(summaryLine(report));
  else for (const line of failureLines(report, null)) session.print(line);
}

/** What shared memory and its like came to; empty where there was none to speak of. */
function imagesLine(memory: MigrationReport["memory"]): string {
  const { warped_image_bytes: bytes, remapped_image_pages: remapped, copied_image_pages: copied } = memory;
  if (bytes === 0) return "";
  return `shared memory and tmpfs: ${formatBytes(bytes)} of image files (${remapped} pages remapped, ${copied} copied)\n`;
}

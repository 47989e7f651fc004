/** What is said when a migration has ended. */
import { ExitCode, errorTable } from "../../errors.js";
import type { MigrationReport, Phase } from "../../protocol/migration.js";
import { PAGE_BYTES } from "../../units.js";
import { formatBytes, formatMs } from "./format.js";

/** Phases in which the container stands still, in order. */
const stillPhases: readonly Phase[] = ["dump", "transfer", "restore", "populate", "warp", "resume"];

/** `moved web vm-a -> vm-b in 312 ms, downtime 41 ms (dump 9 restore 26 warp 3 resume 3), 1.0 GiB remapped, 0 B copied` */
export function summaryLine(report: MigrationReport): string {
  const { time_ms: time, memory } = report;
  const parts = stillPhases
    .filter((phase) => (time.phases[phase] ?? 0) >= 0.5)
    .map((phase) => `${phase} ${Math.round(time.phases[phase])}`);
  const still = parts.length === 0 ? "" : ` (${parts.join(" ")})`;
  const moved =
    report.backend === null
      ? `${formatBytes(memory.network_bytes || memory.bytes)} copied over the network`
      : `${formatBytes(memory.remapped_pages * PAGE_BYTES)} remapped, ${formatBytes(memory.copied_pages * PAGE_BYTES)} copied`;
  return (
    `moved ${report.container} ${report.from} -> ${report.to} in ${formatMs(time.total)}, ` +
    `downtime ${formatMs(time.downtime)}${still}, ${moved}`
  );
}

/** Where the container is, whatever happened: the first thing a person wants to know. Null when that is not known. */
export function whereabouts(report: MigrationReport): string | null {
  const { container, from, to, outcome, error } = report;
  if (error?.code === "MWARP_E_CONTAINER_LOST")
    return `${container} has ended: it ran on ${to}, without its last pages`;
  if (outcome === "committed")
    return error === null ? `${container} is running on ${to}` : `${container} belongs to ${to} now`;
  if (from === "") return null;
  if (error?.code === "MWARP_E_NEEDS_RECOVERY")
    return `${container} belongs to ${from}; it may be frozen there`;
  if (outcome === "refused") return `${container} is on ${from}, untouched`;
  return `${container} is running on ${from}`;
}

/** Lines for stderr when a migration did not simply succeed; what comes first is said first. */
export function failureLines(report: MigrationReport, logs: string | null): string[] {
  const { error } = report;
  if (error === null) return [];
  const where = whereabouts(report);
  // A refusal's details are its reasons, each on a line of its own; the message is the same in one.
  const listed = report.outcome === "refused" && error.details.length > 1;
  const cause = listed ? `${error.details.length} reasons` : error.message;
  return [
    ...(where === null ? [] : [where]),
    `${report.outcome} in ${error.phase}: ${cause} [${error.code}]`,
    ...error.details.filter((line) => line !== error.message).map((line) => `  ${line}`),
    ...(logs === null ? [] : [`logs: ${logs}`]),
    `next: ${nextStep(report, error)}`,
  ];
}

function nextStep(report: MigrationReport, error: NonNullable<MigrationReport["error"]>): string {
  if (error.code === "MWARP_E_NEEDS_RECOVERY") return "mwarp recover";
  if (report.outcome === "refused") return error.hint;
  return `mwarp inspect ${report.id}  (${error.hint})`;
}

/** Exit status of `mwarp migrate` and `mwarp wait`. */
export function exitOfReport(report: MigrationReport): ExitCode {
  const { outcome, error } = report;
  if (error === null) return outcome === "committed" ? ExitCode.done : ExitCode.failed;
  if (error.code === "MWARP_E_CONTAINER_LOST") return errorTable[error.code].exit;
  if (outcome === "committed") return ExitCode.needsRecovery;
  if (outcome === "refused") return errorTable[error.code].exit;
  if (error.code === "MWARP_E_CANCELLED" || error.code === "MWARP_E_NEEDS_RECOVERY")
    return errorTable[error.code].exit;
  return ExitCode.failed;
}

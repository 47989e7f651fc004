/** The moves of the demo side by side. */
import { formatBytes, formatMs } from "../cli/output/format.js";
import { renderTable } from "../cli/output/table.js";
import type { MigrationMethod, MigrationReport, Phase } from "../protocol/migration.js";
import { PAGE_BYTES } from "../units.js";
import type { DemoMove } from "./result.js";

/** Phases in which the container stands still, in their order. */
const stillPhases: readonly Phase[] = ["dump", "transfer", "restore", "populate", "warp", "resume"];

type Cell = (move: DemoMove) => string;

const pagesAsBytes = (pages: number): string => formatBytes(pages * PAGE_BYTES);

/** What was copied, if `method` did it: warp copies between the VMs' memories, cold over their network. */
const copiedBy = ({ method: actual, memory }: MigrationReport, method: MigrationMethod): string =>
  pagesAsBytes(actual === method ? memory.copied_pages : 0);

const rows: readonly (readonly [name: string, cell: Cell])[] = [
  ["total", ({ report }) => formatMs(report.time_ms.total)],
  ["downtime", ({ report }) => formatMs(report.time_ms.downtime)],
  ...stillPhases.map((phase): readonly [string, Cell] => [
    `  ${phase}`,
    ({ report }) => (report.time_ms.phases[phase] > 0 ? formatMs(report.time_ms.phases[phase]) : "-"),
  ]),
  ["VMs paused", ({ report }) => (report.method !== "warp" ? "-" : formatMs(report.stun_ms.destination))],
  ["memory of the container", ({ report }) => formatBytes(report.memory.bytes)],
  ["  changed owner, not copied", ({ report }) => pagesAsBytes(report.memory.remapped_pages)],
  ["  copied on the host", ({ report }) => copiedBy(report, "warp")],
  ["  copied over the network", ({ report }) => copiedBy(report, "cold")],
  ["client: longest wait", ({ client }) => formatMs(client.max_gap_ms)],
  ["client: connections lost", ({ client }) => String(client.reconnects)],
  ["client: wrong answers", ({ client }) => String(client.wrong)],
  ["keys missing or wrong", ({ check }) => `${check.missing + check.wrong} of ${check.keys}`],
];

/** A table with one column per move. */
export function compareMoves(moves: readonly DemoMove[]): string {
  const heads = moves.map(({ report }) => `${report.method} ${report.from} -> ${report.to}`);
  return renderTable(
    ["", ...heads],
    rows.map(([name, cell]) => [name, ...moves.map(cell)]),
  );
}

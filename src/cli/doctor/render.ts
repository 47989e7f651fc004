/** Findings as lines for people. */
import type { Io } from "../io.js";
import { plain } from "../output/plain.js";
import { painter, type Style } from "../output/style.js";
import type { Check } from "./check.js";

const colours: Readonly<Record<Check["status"], Style>> = { ok: "green", warn: "yellow", fail: "red" };

/** Painted lines (Session.printPainted). */
export function checkLines(checks: readonly Check[], io: Pick<Io, "env" | "stdout">): string[] {
  const paint = painter(io, io.stdout);
  const width = Math.max(...checks.map(({ id }) => id.length));
  const lines = checks.flatMap(({ id, status, message, remedy }) => [
    `${paint(colours[status], status.padEnd(4))}  ${id.padEnd(width)}  ${plain(message)}`,
    ...(remedy === null ? [] : [`      ${" ".repeat(width)}  -> ${plain(remedy)}`]),
  ]);
  const failed = checks.filter(({ status }) => status === "fail").length;
  const warned = checks.filter(({ status }) => status === "warn").length;
  return [
    ...lines,
    failed === 0 ? `fit to run (${warned} warnings)` : `${failed} failed, ${warned} warnings`,
  ];
}

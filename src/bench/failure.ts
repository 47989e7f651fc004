/** A measurement that failed, as a record. */
import { toMwarpError } from "../errors.js";
import type { FailureRecord } from "./records.js";

const LAST_LINES = 4;

export function failureRecord(what: string, round: number, thrown: unknown): FailureRecord {
  const { code, message, phase, details } = toMwarpError(thrown);
  const where = phase === undefined ? "" : ` (in ${phase})`;
  const lines = details.filter((line) => line !== message).slice(-LAST_LINES);
  return { kind: "failure", what, round, code, message: [`${message}${where}`, ...lines].join("\n") };
}

/** Where the time of a method goes: phases that add up to the total. */
import type { Phase } from "../../protocol/migration.js";
import { GIB } from "../../units.js";
import type { MigrationRecord } from "../records.js";
import { isIn, isQuiet, type Results, type Setting, type Variant, variantOf, variants } from "../results.js";
import { type PhasePart, phaseParts } from "./theme.js";

export interface Breakdown {
  readonly variant: Variant;
  readonly runs: number;
  /** Bytes of the container. */
  readonly size: number;
  /** Mean, ms. Medians of phases do not add up to the median of the total; means do. */
  readonly total: number;
  /** Mean of every phase, ms, and of what lies between them. */
  readonly parts: Readonly<Record<PhasePart, number>>;
}

const phaseTime = ({ report }: MigrationRecord, phase: Phase): number => report.time_ms.phases[phase] ?? 0;

/** @param records runs of one cell, at least one */
export function breakDown(variant: Variant, records: readonly MigrationRecord[]): Breakdown {
  const mean = (value: (record: MigrationRecord) => number): number =>
    records.reduce((sum, record) => sum + value(record), 0) / records.length;
  const total = mean(({ report }) => report.time_ms.total);
  const phases = phaseParts
    .filter((part): part is Phase => part !== "between")
    .map((phase) => [phase, mean((record) => phaseTime(record, phase))] as const);
  const between = total - phases.reduce((sum, [, time]) => sum + time, 0);
  const parts = Object.fromEntries([...phases, ["between", between]]) as Record<PhasePart, number>;
  return { variant, runs: records.length, size: records[0].cell.size, total, parts };
}

/** By method, at one size: 1 GiB, or the largest there is when that was not measured. */
export function breakdowns(results: Results, setting: Setting): Breakdown[] {
  const here = results.migrations.filter((record) => isQuiet(record) && isIn(record.cell, setting));
  const size = sizeOfFigures(here);
  return ofSize(here, size);
}

/** The same at the smallest size: what a method needs however little memory there is. */
export function smallestBreakdowns(results: Results, setting: Setting): Breakdown[] {
  const here = results.migrations.filter((record) => isQuiet(record) && isIn(record.cell, setting));
  return ofSize(here, Math.min(...here.map(({ cell }) => cell.size)));
}

/** Size that figures of one size are drawn for. */
export function sizeOfFigures(records: readonly MigrationRecord[]): number {
  const sizes = records.map(({ cell }) => cell.size);
  return sizes.includes(GIB) ? GIB : Math.max(0, ...sizes);
}

const ofSize = (records: readonly MigrationRecord[], size: number): Breakdown[] =>
  variants.flatMap((variant) => {
    const runs = records.filter(({ cell }) => cell.size === size && variantOf(cell) === variant);
    return runs.length === 0 ? [] : [breakDown(variant, runs)];
  });

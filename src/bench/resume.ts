/** Whether a run may go on with a file: only figures of the same machine, program and plan can stand side by side. */
import { isDeepStrictEqual } from "node:util";
import { MwarpError } from "../errors.js";
import type { BenchRecord, Plan, RunRecord } from "./records.js";

/** The `run` record, with what a file of this version has in it. */
export type ResumableRun = RunRecord & { readonly plan: Plan };

/** @throws MWARP_E_USAGE when the file does not begin with a run that says what it is to measure */
export function runOf(file: string, records: readonly BenchRecord[]): ResumableRun {
  const [first] = records;
  if (first?.kind === "run" && first.plan !== undefined) return { ...first, plan: first.plan };
  throw new MwarpError("MWARP_E_USAGE", `${file} does not say what it is to measure`, {
    hint: "Only a file that mwarp bench has begun can be gone on with.",
  });
}

/** What can differ, by the names that a person knows it by; undefined on one side is not compared. */
export type Identity = {
  readonly [Name in "machine" | "commit" | "build" | "accelerator" | "guest" | "seed" | "plan"]?:
    | RunRecord[Name]
    | undefined;
};

/** "machine.kernel: 6.1.0 in the file, 6.12.0 now", for everything that differs. */
export function differences(then: Identity, now: Identity): string[] {
  return [...pairs(then, now)].flatMap(([name, before, after]) =>
    before === undefined || after === undefined || isDeepStrictEqual(before, after)
      ? []
      : [`${name}: ${show(before)} in the file, ${show(after)} now`],
  );
}

type Pair = [name: string, before: unknown, after: unknown];

function* pairs(then: Identity, now: Identity): Generator<Pair> {
  for (const name of ["commit", "build", "accelerator", "seed"] as const) yield [name, then[name], now[name]];
  yield* fieldsOf("machine", then.machine, now.machine);
  yield* fieldsOf("guest", then.guest, now.guest);
  yield* fieldsOf("plan", then.plan, now.plan);
}

function* fieldsOf(name: string, before: object | undefined, after: object | undefined): Generator<Pair> {
  if (before === undefined || after === undefined) return;
  const values: Readonly<Record<string, unknown>> = { ...after };
  for (const [field, value] of Object.entries(before)) yield [`${name}.${field}`, value, values[field]];
}

const show = (value: unknown): string => (Array.isArray(value) ? `${value.length} of a kind` : String(value));

/** @throws MWARP_E_USAGE listing every difference */
export function requireSame(file: string, then: Identity, now: Identity): void {
  const details = differences(then, now);
  if (details.length === 0) return;
  throw new MwarpError("MWARP_E_USAGE", `${file} was not begun like this: ${details[0]}`, {
    hint: "Begin a new run, or go on where and as the file was begun.",
    details,
  });
}

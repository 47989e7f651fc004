/** Which runs of warp a bar is judged by, where they were told when to populate. */
import type { Strategy } from "../../protocol/migration.js";
import type { Cell } from "../records.js";
import { variantOf } from "../results.js";

interface Run {
  readonly cell: Cell;
}

/** Runs of that strategy; where warp was left to choose, those, as a file from before there was a choice has eager ones only. */
export function warpsBy<R extends Run>(runs: readonly R[], strategy: Strategy): R[] {
  const told = runs.filter(({ cell }) => variantOf(cell) === `warp, ${strategy}`);
  return told.length > 0 || strategy === "staged"
    ? told
    : runs.filter(({ cell }) => variantOf(cell) === "warp");
}

/** @param runs runs of any method that are compared with each other: of warp's those that were staged, else what it chose by itself */
export function judgedWarps<R extends Run>(runs: readonly R[]): R[] {
  const staged = warpsBy(runs, "staged");
  return staged.length > 0 ? staged : runs.filter(({ cell }) => variantOf(cell) === "warp");
}

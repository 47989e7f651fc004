/** Which runs of warp the bars on downtime, and on what follows it, are judged by: several ways to warp are chosen among once. */
import type { Cell } from "../records.js";
import { variantOf } from "../results.js";

/** @param runs runs of any method that are compared with each other */
export const judgedWarps = <Run extends { readonly cell: Cell }>(runs: readonly Run[]): Run[] =>
  runs.filter(({ cell }) => variantOf(cell) === "warp");

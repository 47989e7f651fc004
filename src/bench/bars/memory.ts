/** Bars on memory: bytes that leave the host's memory for a network or channel, and what the host needs at most. */

import { GIB, PAGE_BYTES } from "../../units.js";
import type { Found } from "../bars.js";
import type { MigrationRecord } from "../records.js";
import { isIn, isQuiet, nameOfSetting, type Results, seriesOf, settingsOf, variantOf } from "../results.js";
import { medianOf, spread } from "../statistics.js";

export const bytesCrossed = (results: Results): Found[] =>
  ofWarp(
    results,
    ({ report: { memory } }) =>
      memory.bytes === 0 ? null : (memory.network_bytes + memory.channel_bytes) / memory.bytes,
    classes,
  );

export const peakMemory = (results: Results): Found[] =>
  ofWarp(
    results,
    ({ usage: { pss } }) => (pss.peak - pss.before) / GIB,
    () => null,
  );

function ofWarp(
  { migrations }: Results,
  value: (record: MigrationRecord) => number | null,
  note: (here: readonly MigrationRecord[]) => string | null,
): Found[] {
  const gib = migrations.filter(
    (record) => record.cell.size === GIB && isQuiet(record) && variantOf(record.cell) === "warp",
  );
  return settingsOf(gib).map((setting) => {
    const here = gib.filter(({ cell }) => isIn(cell, setting));
    return {
      setting: nameOfSetting(setting),
      estimate: medianOf(seriesOf(here, value)),
      note: note(here),
    };
  });
}

/** What was not remapped, by what became of it: medians, in pages. */
function classes(here: readonly MigrationRecord[]): string {
  const pages = (of: (memory: MigrationRecord["report"]["memory"]) => number): number =>
    Math.round(spread(here.map(({ report }) => of(report.memory)))?.median ?? 0);
  const parts = [
    ["remapped", pages((memory) => memory.remapped_pages)],
    ["copied on the host (held by others, file pages, or cheaper)", pages((memory) => memory.copied_pages)],
    ["of which shared between the container's tasks", pages((memory) => memory.shared_pages)],
    [
      "sent as bytes before the stun",
      pages((memory) => Math.max(0, memory.bytes / PAGE_BYTES - memory.remapped_pages - memory.copied_pages)),
    ],
  ] as const;
  return `pages: ${parts
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `${count} ${name}`)
    .join(", ")}`;
}

/** Who the container waits for while it stands still, by size: what is the floor, and what grows. */
import { linearRegression, mean } from "simple-statistics";
import { type DowntimePart, downtimeParts } from "../../../protocol/migration.js";
import { GIB } from "../../../units.js";
import type { FloorRecord, MigrationRecord } from "../../records.js";
import {
  downtime,
  isIn,
  isQuiet,
  nameOfSetting,
  nameOfSize,
  type Results,
  type Setting,
  settingsOf,
  type Variant,
  variantOf,
  variants,
} from "../../results.js";
import { spread } from "../../statistics.js";
import type { Figure } from "../figure.js";
import { formatSpread, formatTime } from "../format.js";
import { ascending } from "./scales.js";

interface Group {
  readonly setting: Setting;
  readonly variant: Variant;
  readonly records: readonly MigrationRecord[];
}

export function downtimeFigures({ migrations, floors }: Results): Figure[] {
  // Of the methods over the network nobody knows what was CRIU's share, and runc's.
  const told = migrations.filter((record) => isQuiet(record) && part("criu")(record) > 0);
  const groups = settingsOf(told).flatMap((setting) =>
    variants.flatMap((variant): Group[] => {
      const records = told.filter(({ cell }) => isIn(cell, setting) && variantOf(cell) === variant);
      return records.length === 0 ? [] : [{ setting, variant, records }];
    }),
  );
  return [...groups.map(partTable), ...floorTables(migrations.filter(isQuiet), floors)];
}

/** Every size and method beside the floor; a bar is about one of them only. */
function floorTables(quiet: readonly MigrationRecord[], floors: readonly FloorRecord[]): Figure[] {
  return settingsOf(quiet).flatMap((setting) => {
    const floor = spread(
      floors.filter(({ backing }) => backing === setting.backing).map(({ frozen_ms }) => frozen_ms),
    );
    if (floor === null) return [];
    const here = quiet.filter(({ cell }) => isIn(cell, setting));
    const rows = variants.flatMap((variant) =>
      ascending(here.map(({ cell }) => cell.size)).flatMap((size) => {
        const runs = here.filter(({ cell }) => cell.size === size && variantOf(cell) === variant);
        const times = spread(runs.map(downtime));
        if (times === null) return [];
        const over = (times.median / floor.median).toFixed(2);
        return [[variant, nameOfSize(size), formatSpread(times, formatTime), over, `${times.runs}`]];
      }),
    );
    return [
      {
        title: `Downtime against the floor: ${nameOfSetting(setting)}`,
        note:
          "The floor is how long a process of 1 MiB does not run, by its own clock, while plain runc checkpoint and runc restore follow each other in " +
          "one VM, images on tmpfs. Medians, in brackets the quartiles.",
        plot: null,
        table: {
          head: ["method", "size", "downtime", "over the floor", "runs"],
          rows: [["the floor", "1 MiB", formatSpread(floor, formatTime), "1", `${floor.runs}`], ...rows],
          words: [1],
        },
      },
    ];
  });
}

const part =
  (name: DowntimePart) =>
  ({ report }: MigrationRecord): number =>
    report.time_ms.downtime_parts[name];

function partTable({ setting, variant, records }: Group): Figure {
  const sizes = [...new Set(records.map(({ cell }) => cell.size))].sort((a, b) => a - b);
  const values = [...downtimeParts.map(part), downtime];
  const rows = sizes.map((size) => {
    const here = records.filter(({ cell }) => cell.size === size);
    return [nameOfSize(size), ...values.map((value) => formatTime(mean(here.map(value)))), `${here.length}`];
  });
  return {
    title: `Downtime by who is waited for: ${nameOfSetting(setting)}, ${variant}`,
    note:
      "Means over the runs; they add up. agents: the agents' own work, their channels and all else in the guests; populate: the destination's kernel " +
      "faults pages in; stun: both VMs paused; host: the daemon's own work. The last row is the slope of a straight line through all runs.",
    plot: null,
    table: {
      head: ["size", ...downtimeParts, "downtime", "runs"],
      rows:
        sizes.length < 2
          ? rows
          : [
              ...rows,
              ["per GiB", ...values.map((value) => formatTime(slope(records, value))), `${records.length}`],
            ],
    },
  };
}

/** ms per GiB, by least squares. */
const slope = (records: readonly MigrationRecord[], value: (record: MigrationRecord) => number): number =>
  linearRegression(records.map((record) => [record.cell.size / GIB, value(record)])).m;

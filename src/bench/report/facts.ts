/** What a report says of its run besides figures: machine and versions, what went wrong, the baselines' commands. */
import { formatBytes } from "../../cli/output/format.js";
import type { MigrationRecord } from "../records.js";
import { baselines, nameOfSetting, nameOfSize, type Results } from "../results.js";
import { type Spread, spread } from "../statistics.js";
import type { Table } from "./figure.js";

/** Name and value, in order. */
export function factsOf({
  run,
  migrations,
  stalls,
  applications,
}: Results): (readonly [name: string, value: string])[] {
  if (run === null) return [];
  const { machine, guest } = run;
  const loads = [...migrations, ...stalls, ...applications].map(({ load }) => load);
  const load = spread(loads);
  return [
    ["command", commandOf(run.command)],
    ["commit", run.commit ?? "not from a checkout"],
    ["started", run.started_at],
    ["machine", `${machine.cpu}, ${machine.cores} cores, ${formatBytes(machine.memory)}`],
    ["accelerator", run.accelerator === "kvm" ? "KVM" : "TCG (the VMs' processors are emulated)"],
    ["host", `Linux ${machine.kernel}, QEMU ${machine.qemu}, Node ${machine.node}`],
    [
      "VMs",
      `Linux ${guest.kernel}, CRIU ${guest.criu}, runc ${guest.runc}, ${guest.cpus} processors, ${formatBytes(guest.memory)}`,
    ],
    ["run", `${run.id}, seed ${run.seed}`],
    ...(load === null ? [] : [["load", loadWords(load, Math.max(...loads))] as const]),
  ];
}

/** What else the host was doing. */
const loadWords = ({ median }: Spread, highest: number): string =>
  `median ${median.toFixed(2)}, at most ${highest.toFixed(2)} (average of the minute before a move)`;

export const emulationWarning =
  "The VMs ran under emulation (TCG): CRIU, runc and the guests' kernels on emulated processors, the host's part of a move not. " +
  "So CRIU and runc dominate; their share is under Where the time goes. Absolute times mean nothing elsewhere, and ratios are " +
  "of this run alone.";

/** As one would type it. */
export const commandOf = (argv: readonly string[]): string =>
  argv.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(" ");

/** Everything that did not end as it should; an empty table when all did. */
export function wrongs(results: Results): Table {
  const moves = [...results.spoiled, ...results.spoiledStalls].map(({ cell, round, report, verified }) => [
    nameOfCell(cell),
    String(round),
    report.error?.code ?? "-",
    report.error?.message ?? (verified ? report.outcome : "memory was not as it should have been"),
  ]);
  const clients = results.spoiledApplications.map(({ application, method, round, report }) => [
    `${application}, ${method}`,
    String(round),
    report.error?.code ?? "-",
    report.error?.message ?? report.outcome,
  ]);
  const failures = results.failures.map(({ what, round, code, message }) => [
    what,
    String(round),
    code,
    message,
  ]);
  return {
    head: ["what", "round", "code", "message"],
    rows: [...moves, ...clients, ...failures],
    words: [2, 3],
  };
}

const nameOfCell = (cell: MigrationRecord["cell"]): string =>
  `${cell.method} ${cell.backend}, ${nameOfSize(cell.size)}, ${nameOfSetting(cell)}, ${cell.processes} processes, ${Math.round(cell.write_share * 100)} % written`;

export interface Commands {
  readonly method: string;
  /** "vm-a: criu dump ...", in the order in which they were started. */
  readonly lines: readonly string[];
}

/** The stock tools' command lines of the last move that each baseline made. */
export function commandsOf({ migrations }: Results): Commands[] {
  return baselines.flatMap((method) => {
    const last = migrations.findLast(
      ({ cell, report }) => cell.method === method && report.commands.length > 0,
    );
    if (last === undefined) return [];
    return [{ method, lines: last.report.commands.map(({ vm, argv }) => `${vm}: ${commandOf(argv)}`) }];
  });
}

/** "212 moves, 40 application runs, 60 planner runs; 1 went wrong". */
export function countsOf(results: Results): string {
  const parts = [
    [results.migrations.length, "moves"],
    [results.stalls.length, "moves of busy containers"],
    [results.applications.length, "application runs"],
    [results.planners.length, "planner runs"],
    [results.crossovers.length, "cost measurements"],
    [results.networks.length, "network measurements"],
    [results.floors.length, "measurements of the floor"],
  ] as const;
  const wrong = wrongs(results).rows.length;
  const list = parts.filter(([count]) => count > 0).map(([count, name]) => `${count} ${name}`);
  return `${list.length === 0 ? "Nothing measured" : list.join(", ")}; ${wrong} went wrong.`;
}

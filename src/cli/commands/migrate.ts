/** `mwarp migrate`: moves a container to another VM. */
import { Option } from "commander";
import { MwarpError } from "../../errors.js";
import type { MigrationPlan } from "../../protocol/api.js";
import type {
  BackendChoice,
  MigrationMethod,
  MigrationRequest,
  StrategyChoice,
  TimeoutAction,
} from "../../protocol/migration.js";
import { formatBytes } from "../output/format.js";
import { parseDuration } from "../parse.js";
import { type Register, type Session, withJson } from "../session.js";

interface MigrateOptions {
  readonly to: string;
  readonly method: MigrationMethod;
  readonly backend: BackendChoice;
  readonly strategy: StrategyChoice;
  readonly dryRun?: true;
  readonly detach?: true;
  readonly quiet?: true;
  readonly timeout?: number;
  readonly maxDowntime?: number;
  readonly onTimeout: TimeoutAction;
  readonly maxStun?: number;
}

export const registerMigrate: Register = (program, session) => {
  withJson(program.command("migrate").description("move a container to another VM"))
    .argument("<name>", "container: name or unique id prefix")
    .requiredOption("--to <vm>", "VM to move it to")
    .addOption(
      new Option(
        "--method <method>",
        "warp: its memory changes owner. The others copy it over the VMs' network: cold while it stands still, precopy in rounds before, postcopy after",
      )
        .choices(["warp", "cold", "precopy", "postcopy"] satisfies MigrationMethod[])
        .default("warp"),
    )
    .addOption(
      new Option("--backend <backend>", "how memory changes owner; auto chooses per extent")
        .choices(["auto", "remap", "copy"])
        .default("auto"),
    )
    .addOption(
      new Option(
        "--strategy <strategy>",
        "when the destination makes room in memory: eager while the container stands still, staged before that; auto chooses by cost",
      )
        .choices(["auto", "eager", "staged"] satisfies StrategyChoice[])
        .default("auto"),
    )
    .option("--dry-run", "print what would be done, or every reason why not")
    .option("--timeout <time>", "roll back when not committed within this time, e.g. 30s", parseDuration)
    .option(
      "--max-downtime <time>",
      "roll back when the container has stood still this long and is not committed",
      parseDuration,
    )
    .addOption(
      new Option("--on-timeout <action>", "when --timeout or --max-downtime passes: roll back, or go on")
        .choices(["cancel", "proceed"])
        .default("cancel"),
    )
    .option(
      "--max-stun <time>",
      "let the VMs go on and roll back when they have stood still this long before the exchange (default 10s)",
      parseDuration,
    )
    .option("-d, --detach", "print the id and go on in the background (then: mwarp wait ID)")
    .option("-q, --quiet", "no progress")
    .addHelpText(
      "after",
      "\nCtrl-C cancels and rolls back; past the commit it waits. A second Ctrl-C detaches.",
    )
    .action(async (name: string, options: MigrateOptions) => {
      if (options.method !== "warp" && options.strategy !== "auto")
        throw new MwarpError("MWARP_E_USAGE", `--strategy is of method warp; ${options.method} has none`);
      const request: MigrationRequest = {
        container: name,
        to: options.to,
        method: options.method,
        backend: options.backend,
        strategy: options.strategy,
        dryRun: options.dryRun === true,
        timeoutMs: options.timeout ?? null,
        maxDowntimeMs: options.maxDowntime ?? null,
        onTimeout: options.onTimeout,
        maxStunMs: options.maxStun ?? null,
      };
      const daemon = await session.daemon();
      if (request.dryRun) return showPlan(session, await daemon.planMigration(request));
      const id = await daemon.startMigration(request);
      if (options.detach) return session.json ? session.document({ id }) : session.print(id);
      const { followMigration } = await import("../follow.js");
      await followMigration(session, daemon, {
        id,
        container: name,
        to: options.to,
        onInterrupt: "cancel",
        quiet: options.quiet === true,
      });
    });
};

/** A plan with reasons against it is a refusal: the first reason's exit status. */
function showPlan(session: Session, plan: MigrationPlan): void {
  const [first] = plan.reasons;
  if (first !== undefined) session.exitCode = first.exit;
  if (session.json) {
    session.document(plan);
    return;
  }
  const from = plan.from ?? "?";
  if (first !== undefined) {
    session.say(`${plan.container} cannot move ${from} -> ${plan.to}:`);
    for (const { message, code, hint } of plan.reasons) session.say(`  ${message} [${code}]\n    ${hint}`);
    return;
  }
  const memory = plan.memory_bytes === null ? "" : `, ${formatBytes(plan.memory_bytes)} of memory`;
  const strategy = plan.strategy === null ? "" : ` (${plan.strategy})`;
  session.print(`would move ${plan.container} ${from} -> ${plan.to} by ${plan.method}${strategy}${memory}`);
  for (const [index, step] of plan.steps.entries()) session.print(`  ${index + 1}. ${step}`);
  for (const note of plan.notes) session.print(`  note: ${note}`);
}

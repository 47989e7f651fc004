/** `mwarp ps`: the containers of all VMs. */
import type { ContainerListing } from "../../protocol/api.js";
import { policyText } from "../../protocol/restart.js";
import { formatAge, formatBytes } from "../output/format.js";
import { type Register, withJson } from "../session.js";

interface PsOptions {
  readonly quiet?: true;
  readonly vm?: string;
}

export const registerPs: Register = (program, session) => {
  withJson(program.command("ps").alias("ls").description("list the containers of all VMs"))
    .option("-q, --quiet", "names only")
    .option("--vm <vm>", "of one VM only")
    .action(async (options: PsOptions) => {
      const daemon = await session.daemon();
      const here = (vm: string): boolean => options.vm === undefined || options.vm === vm;
      if (options.vm !== undefined) await requireVm(daemon, options.vm);
      const all = await daemon.containers();
      const containers = all.containers.filter((item) => here(item.vm));
      const unreachable = all.unreachable.filter((item) => here(item.vm));
      if (session.json) return session.document({ containers: containers.map(psEntry), unreachable });
      for (const item of unreachable) session.say(`${item.vm} does not answer: ${item.error.message}`);
      if (options.quiet) {
        for (const { container } of containers) session.print(container.spec.name);
        return;
      }
      await session.table(
        ["NAME", "ID", "VM", "STATUS", "RESTARTS", "MEMORY", "ADDRESS", "CREATED"],
        containers
          .map(psEntry)
          .map((entry) => [
            entry.name,
            entry.id.slice(0, 12),
            entry.vm,
            statusText(entry),
            String(entry.restart.count),
            formatBytes(entry.memory_bytes),
            entry.ipv4,
            formatAge(entry.created_at),
          ]),
      );
    });
};

/** One container as `ps --json` shows it. */
export function psEntry({ vm, container }: ContainerListing) {
  const { spec } = container;
  return {
    name: spec.name,
    id: spec.id,
    vm,
    status: container.status,
    pid: container.pid,
    exit_code: container.exitCode,
    out_of_memory: container.outOfMemory,
    /** Migration that has it frozen, or null. */
    migration: container.held,
    memory_bytes: container.memoryBytes,
    ipv4: spec.network.ipv4,
    ipv6: spec.network.ipv6?.address ?? null,
    mac: spec.network.mac,
    hostname: spec.hostname,
    runtime: spec.runtime,
    rootfs: spec.rootfs,
    volumes: spec.volumes ?? [],
    created_at: spec.createdAt,
    restart: {
      policy: policyText(spec.restart),
      count: container.restart.count,
      due_in_ms: container.restart.dueInMs,
      error: container.restart.error,
    },
    health: healthEntry(container),
  };
}

function healthEntry({ spec, health }: ContainerListing["container"]) {
  if (spec.health === null || health === null) return null;
  const { command, intervalMs, timeoutMs, retries, startPeriodMs } = spec.health;
  return {
    status: health.status,
    failing_streak: health.failingStreak,
    results: health.results.map(({ startedAt, tookMs, exitCode, output }) => ({
      started_at: startedAt,
      took_ms: tookMs,
      exit_code: exitCode,
      output,
    })),
    check: {
      command,
      interval_ms: intervalMs,
      timeout_ms: timeoutMs,
      retries,
      start_period_ms: startPeriodMs,
    },
  };
}

/** What follows in brackets: the exit code of one that has ended, the health of one that runs. */
function statusText(entry: ReturnType<typeof psEntry>): string {
  if (entry.migration !== null) return `${entry.status} (moving)`;
  const said = [
    entry.exit_code === null ? null : String(entry.exit_code),
    entry.out_of_memory ? "out of memory" : null,
    entry.status === "running" ? entry.health?.status : null,
  ].filter((part) => typeof part === "string");
  return said.length === 0 ? entry.status : `${entry.status} (${said.join(", ")})`;
}

async function requireVm(
  daemon: { vms(): Promise<{ vms: readonly { readonly name: string }[] }> },
  vm: string,
): Promise<void> {
  const { vms } = await daemon.vms();
  if (vms.some((known) => known.name === vm)) return;
  const { MwarpError } = await import("../../errors.js");
  throw new MwarpError("MWARP_E_VM_UNKNOWN", `no VM is called ${vm}`);
}

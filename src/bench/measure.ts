/** One migration, measured. */
import { loadavg } from "node:os";
import type { DaemonClient } from "../daemon/client.js";
import { MwarpError } from "../errors.js";
import type { LabStatus } from "../lab/index.js";
import type { MigrationReport } from "../protocol/migration.js";
import type { BenchContainer } from "./container.js";
import { migrate } from "./migrate.js";
import type { Cell, MigrationRecord } from "./records.js";
import { UsageSampler, type Watched } from "./usage.js";

export interface MeasureContext {
  readonly daemon: DaemonClient;
  readonly lab: LabStatus;
  readonly signal: AbortSignal;
}

/**
 * Lays the container's memory out anew, moves it to the other VM, and asks it whether all is right. The passes over its pages come
 * when the migration has ended, so that they slow no method down.
 * @throws what kept the migration from being committed
 */
export async function measureMigration(
  { daemon, lab, signal }: MeasureContext,
  container: BenchContainer,
  cell: Cell,
  round: number,
): Promise<MigrationRecord> {
  await container.renew(signal);
  const from = container.vm;
  const to = otherVm(lab, from);
  const load = loadavg()[0];
  using sampler = await UsageSampler.begin(await watched(daemon, lab, from, to));
  const { method, backend, strategy } = cell;
  const report = await migrate(daemon, { container: container.name, to, method, backend, strategy }, signal);
  const usage = await sampler.end();
  requireCommitted(report);
  container.vm = to;
  const first_touch_ms = await container.touch(signal);
  const second_touch_ms = await container.touch(signal);
  const { wrong } = await container.verify(signal);
  return {
    kind: "migration",
    cell,
    round,
    load,
    report,
    usage,
    first_touch_ms,
    second_touch_ms,
    verified: wrong === 0,
  };
}

/** @throws MWARP_E_VM_UNKNOWN for a lab of one VM */
export function otherVm(lab: LabStatus, vm: string): string {
  const other = lab.vms.find(({ endpoint }) => endpoint.name !== vm)?.endpoint.name;
  if (other === undefined) throw new MwarpError("MWARP_E_VM_UNKNOWN", `the lab has no VM besides ${vm}`);
  return other;
}

async function watched(daemon: DaemonClient, lab: LabStatus, from: string, to: string): Promise<Watched> {
  const pidOf = (vm: string): number => {
    const found = lab.vms.find(({ endpoint }) => endpoint.name === vm);
    if (found === undefined) throw new MwarpError("MWARP_E_VM_UNKNOWN", `the lab has no VM ${vm}`);
    return found.endpoint.pid;
  };
  const { pid } = await daemon.version();
  return { source_vmm: pidOf(from), destination_vmm: pidOf(to), daemon: pid };
}

/** @throws what kept the migration from being committed */
export function requireCommitted({ error, outcome, id }: MigrationReport): void {
  if (error !== null)
    throw new MwarpError(error.code, error.message, { phase: error.phase, details: error.details });
  if (outcome !== "committed") throw new MwarpError("MWARP_E_INTERNAL", `migration ${id}: ${outcome}`);
}

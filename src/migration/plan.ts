/** `migrate --dry-run`: preflight for real, every reason listed. */
import { errorTable, toMwarpError } from "../errors.js";
import type { ErrorBody, MigrationPlan } from "../protocol/api.js";
import type { MigrationRequest, Strategy } from "../protocol/migration.js";
import type { OpenMigration } from "./journals.js";
import { chooseTools } from "./methods/common.js";
import type { MigrationWorld } from "./ports.js";
import { type Checked, preflight, Refusal } from "./preflight.js";
import type { Reason } from "./reasons.js";
import { type Choice, chooseStage } from "./staging.js";
import { methodSteps } from "./states.js";

/** @throws MwarpError only when a guest could not be asked at all */
export async function planMigration(
  world: MigrationWorld,
  request: MigrationRequest,
  unsettled: readonly OpenMigration[],
  signal: AbortSignal,
): Promise<MigrationPlan> {
  const base = {
    container: request.container,
    to: request.to,
    method: request.method,
    backend: request.backend,
    steps: [...methodSteps[request.method], "resume", "retire"],
  };
  try {
    const checked = await preflight(world, request, unsettled, signal);
    const said: string[] = [];
    const onNote = (note: string): void => void said.push(note);
    return {
      ...base,
      from: checked.source.endpoint.name,
      strategy: await strategyOf(request, { checked, signal, onNote }),
      reasons: [],
      memory_bytes: checked.usage.anonymousBytes,
      image_bytes: null,
      notes: [...notes(request, checked), ...said],
    };
  } catch (error) {
    if (!(error instanceof Refusal)) throw toMwarpError(error);
    return {
      ...base,
      from: error.from,
      strategy: null,
      reasons: error.reasons.map(reasonBody),
      memory_bytes: null,
      image_bytes: null,
      notes: [],
    };
  }
}

/** As a migration that began now would choose it. Without quick tools there is nothing to choose. */
async function strategyOf(
  request: MigrationRequest,
  choice: Omit<Choice, "request">,
): Promise<Strategy | null> {
  const { checked } = choice;
  if (chooseTools(request.method, checked.sourceInfo, checked.destinationInfo) !== "quick") return null;
  return (await chooseStage({ ...choice, request })).length > 0 ? "staged" : "eager";
}

function notes(request: MigrationRequest, checked: Checked): string[] {
  const { tasks, writableLayerBytes } = checked.usage;
  const how =
    request.method === "warp"
      ? "private anonymous memory changes owner; shared memory and file pages travel in the images"
      : "every page crosses the VMs' network through CRIU's page server";
  const copied = checked.copiedBecause.map((why) => `memory is copied on the host, not remapped: ${why}`);
  return [`${tasks.length} task(s), writable layer ${writableLayerBytes} bytes`, how, ...copied];
}

const reasonBody = (reason: Reason): ErrorBody => ({
  code: reason.code,
  message: reason.message,
  hint: reason.hint ?? errorTable[reason.code].remedy,
  phase: "preflight",
  details: [...(reason.details ?? [])],
  exit: errorTable[reason.code].exit,
});

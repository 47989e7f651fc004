/**
 * What speaks against a migration in the container's volumes: a named one whose name is taken on the other side, a shared directory that
 * the other side does not have.
 *
 * That two VMs see one directory is tried, not read off: a file with a random name that one of them makes must be seen by the other.
 * File system ids, inode numbers and times agree just as well between the disks of two VMs that were made from one image, and where such
 * a disk was taken for shared storage each would go on with a copy of its own.
 */
import { randomBytes } from "node:crypto";
import { toMwarpError } from "../errors.js";
import type { AgentParams, AgentResult } from "../protocol/agent.js";
import { type ContainerSpec, namedVolumes, type SharedVolume, sharedVolumes } from "../protocol/container.js";
import type { AgentCaller } from "./ports.js";
import type { Reason } from "./reasons.js";

/** Storage that hangs would hang us with it. */
const LOOK_MS = 10_000;

export interface VolumeSide {
  readonly vm: string;
  readonly agent: Pick<AgentCaller, "call">;
}

type State = AgentResult<"directory.token">["state"];

/** All that could be asked; what could not is a reason, too. */
export async function volumeReasons(
  spec: Pick<ContainerSpec, "volumes">,
  source: VolumeSide,
  destination: VolumeSide,
  signal: AbortSignal,
): Promise<Reason[]> {
  const reasons: Reason[] = [];
  try {
    await findReasons(spec, source, destination, { signal, reasons });
  } catch (cause) {
    signal.throwIfAborted();
    const { code, message, hint, details } = toMwarpError(cause);
    reasons.push({ code, message, hint, details });
  }
  return reasons;
}

async function findReasons(
  spec: Pick<ContainerSpec, "volumes">,
  source: VolumeSide,
  destination: VolumeSide,
  { signal, reasons }: { signal: AbortSignal; reasons: Reason[] },
): Promise<void> {
  const named = new Set(namedVolumes(spec.volumes).map(({ name }) => name));
  if (named.size > 0) {
    const { volumes } = await destination.agent.call("volume.list", {}, { signal, timeoutMs: LOOK_MS });
    for (const { name, container } of volumes.filter((volume) => named.has(volume.name)))
      reasons.push({
        code: "MWARP_E_NAME_TAKEN",
        message: `${destination.vm} has a volume "${name}" already${container === null ? "" : `, container ${container}'s`}`,
        hint: `Remove it there if nobody needs it: mwarp volume rm ${name} --vm ${destination.vm}`,
      });
  }
  for (const volume of sharedVolumes(spec.volumes)) {
    const problem = await sharedProblem(volume, source, destination, signal);
    if (problem === null) continue;
    reasons.push({
      code: "MWARP_E_UNSUPPORTED",
      message: `cannot be moved: ${problem}`,
      hint: `Mount the storage that ${source.vm} has at ${volume.directory} there in ${destination.vm}, too.`,
    });
  }
}

/** Why a shared directory is not one for both sides; null when it is. Either may make the token: mounts may be read-only on one. */
async function sharedProblem(
  { directory, destination: place }: SharedVolume,
  source: VolumeSide,
  destination: VolumeSide,
  signal: AbortSignal,
): Promise<string | null> {
  const what = `the volume at ${place}`;
  const refused: string[] = [];
  for (const [maker, looker] of [
    [source, destination],
    [destination, source],
  ] as const) {
    const token = randomBytes(16).toString("hex");
    const ask = (side: VolumeSide, act: AgentParams<"directory.token">["act"]): Promise<State> =>
      side.agent
        .call("directory.token", { directory, token, act }, { signal, timeoutMs: LOOK_MS })
        .then(({ state }) => state);
    const made = await ask(maker, "make");
    if (made === "missing") return `${what}: ${maker.vm} has no directory ${directory}`;
    if (made === "with") {
      const seen = await ask(looker, "look").finally(() => ask(maker, "remove"));
      if (seen === "with") return null;
      return seen === "missing"
        ? `${what}: ${looker.vm} has no directory ${directory}`
        : `${what}: ${directory} is not the same directory in ${source.vm} and ${destination.vm}`;
    }
    refused.push(maker.vm);
  }
  return `${what}: nothing can be written to ${directory} in ${refused.join(" and ")}, so it is not known to be one directory`;
}

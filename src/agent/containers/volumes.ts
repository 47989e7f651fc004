/**
 * Named volumes. One that no container has rests in VOLUMES_DIR under its name; the container that has it has it in its own directory,
 * so that it moves and goes with all else there. Which of the two it is changes by a rename, so nobody else can have it, and no
 * crash makes two of it. And what is asked of directories that VMs share.
 */
import { randomBytes } from "node:crypto";
import { access, constants, mkdir, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { MwarpError } from "../../errors.js";
import type { AgentParams, AgentResult } from "../../protocol/agent.js";
import {
  type ContainerSpec,
  namedVolumes,
  sharedVolumes,
  type VolumeState,
} from "../../protocol/container.js";
import { exists, isMissing } from "../files.js";
import { containerPaths, STAGING_DIR, VOLUMES_DIR } from "../paths.js";
import { run } from "../process.js";
import { containerNames } from "./store.js";

const MODE = 0o755;

/** Where a container's own files are, below its directory: its writable layer, and its volumes. */
export const filesOf = ({ volumes }: Pick<ContainerSpec, "volumes">): string[] => [
  "upper",
  ...namedVolumes(volumes).map(({ name }) => `volumes/${name}`),
];

/** Where a container has a volume. */
const heldPath = (container: string, volume: string): string =>
  join(containerPaths(container).volumes, volume);
const restingPath = (volume: string): string => join(VOLUMES_DIR, volume);

/** The container that has a volume; null when none does. */
async function holderOf(volume: string): Promise<string | null> {
  for (const name of await containerNames()) if (await exists(heldPath(name, volume))) return name;
  return null;
}

/** One change of who has what at a time. */
let turn: Promise<unknown> = Promise.resolve();
function exclusively<T>(work: () => Promise<T>): Promise<T> {
  const result = turn.then(work);
  turn = result.catch(() => undefined);
  return result;
}

/**
 * Gives a container its volumes, those that are not there yet empty. `whence`: `here`, it starts in this VM; `elsewhere`, it comes with
 * its volumes, and none of those names may be known here.
 * @throws MWARP_E_BUSY naming the container that has one, MWARP_E_NAME_TAKEN, MWARP_E_USAGE for a shared directory that is missing
 */
export function takeVolumes(spec: ContainerSpec, whence: "here" | "elsewhere"): Promise<void> {
  return exclusively(async () => {
    for (const { directory } of sharedVolumes(spec.volumes)) await requireDirectory(directory);
    const named = namedVolumes(spec.volumes);
    if (named.length > 0) await mkdir(containerPaths(spec.name).volumes, { recursive: true });
    for (const { name } of named) {
      const holder = await holderOf(name);
      if (holder !== null)
        throw new MwarpError("MWARP_E_BUSY", `container ${holder} has the volume ${name}`, {
          hint: "A named volume is one container's at a time: use another name, or remove that container.",
        });
      if (!(await exists(restingPath(name)))) await mkdir(heldPath(spec.name, name), { mode: MODE });
      else if (whence === "here") await rename(restingPath(name), heldPath(spec.name, name));
      else throw new MwarpError("MWARP_E_NAME_TAKEN", `this VM has a volume ${name} already`);
    }
  });
}

async function requireDirectory(directory: string): Promise<void> {
  const found = await stat(directory).catch((error: unknown) => {
    if (isMissing(error)) return null;
    throw error;
  });
  if (found?.isDirectory() === true) return;
  throw new MwarpError("MWARP_E_USAGE", `this VM has no directory ${directory}`, {
    hint: "A shared volume is a directory of the VM, mounted there from storage that the other VMs have, too.",
  });
}

/** Takes them from a container that goes, so that they stay. */
export function restVolumes(container: string): Promise<void> {
  return exclusively(async () => {
    const dir = containerPaths(container).volumes;
    for (const volume of await readdir(dir).catch(noneIfMissing)) {
      if (await exists(restingPath(volume))) continue;
      await rename(join(dir, volume), restingPath(volume));
    }
  });
}

function noneIfMissing(error: unknown): string[] {
  if (isMissing(error)) return [];
  throw error;
}

export async function listVolumes(): Promise<AgentResult<"volume.list">> {
  const volumes: VolumeState[] = [];
  for (const name of await readdir(VOLUMES_DIR))
    volumes.push({ name, container: null, bytes: await bytesOf(restingPath(name)) });
  for (const container of await containerNames())
    for (const name of await readdir(containerPaths(container).volumes).catch(noneIfMissing))
      volumes.push({ name, container, bytes: await bytesOf(heldPath(container, name)) });
  return { volumes: volumes.sort((a, b) => a.name.localeCompare(b.name)) };
}

/** What vanishes while du looks makes it complain, and not stop. */
async function bytesOf(dir: string): Promise<number> {
  const { stdout } = await run(["du", "-s", "--block-size=1", dir]);
  return Number(stdout.split("\t")[0] || 0);
}

export async function removeVolume({ name }: AgentParams<"volume.remove">): Promise<Record<string, never>> {
  await exclusively(async () => {
    const holder = await holderOf(name);
    if (holder !== null)
      throw new MwarpError("MWARP_E_BUSY", `container ${holder} has the volume ${name}`, {
        hint: `Remove the container with it: mwarp rm --volumes ${holder}`,
      });
    const gone = join(STAGING_DIR, `volume-${randomBytes(6).toString("hex")}`);
    try {
      await rename(restingPath(name), gone);
    } catch (error) {
      if (!isMissing(error)) throw error;
      throw new MwarpError("MWARP_E_VOLUME_UNKNOWN", `this VM has no volume ${name}`);
    }
    await rm(gone, { recursive: true, force: true });
  });
  return {};
}

/** See the protocol. A token lies there for as long as the other VM needs to look, and has a name that begins with a dot. */
export async function directoryToken({
  directory,
  token,
  act,
}: AgentParams<"directory.token">): Promise<AgentResult<"directory.token">> {
  const file = join(directory, `.mwarp-${token}`);
  try {
    if (!(await stat(directory)).isDirectory()) return { state: "missing" };
    if (act === "make") await writeFile(file, "", { flag: "wx", mode: 0o600 });
    if (act === "remove") await rm(file, { force: true });
    await access(file, constants.F_OK);
    return { state: "with" };
  } catch (error) {
    if (isMissing(error)) return { state: (await exists(directory)) ? "without" : "missing" };
    if (isReadOnly(error)) return { state: "read-only" };
    throw error;
  }
}

const isReadOnly = (error: unknown): boolean =>
  error instanceof Error && "code" in error && ["EROFS", "EACCES", "EPERM"].includes(String(error.code));

/** The container's mounts for its volumes, in an order in which none hides another. */
export function volumeMounts(spec: ContainerSpec): Record<string, unknown>[] {
  return [...(spec.volumes ?? [])]
    .sort((a, b) => a.destination.length - b.destination.length)
    .map((volume) => ({
      destination: volume.destination,
      type: "bind",
      source: volume.kind === "named" ? heldPath(spec.name, volume.name) : volume.directory,
      options: ["bind", volume.readOnly ? "ro" : "rw"],
    }));
}

/**
 * A container's restarts and health checks around a move. From before its freeze until it has arrived for good the mark `moving` is
 * beside it: with that, as with `held`, it is not started again and not checked. What is known of both moves along with its log.
 */
import { lstat } from "node:fs/promises";
import { basename } from "node:path";
import { exists, readIfThere, readNumber, writeAtomic } from "../files.js";
import { log } from "../log.js";
import { remove } from "../memory-files.js";
import { containerPaths } from "../paths.js";
import { HealthFileSchema, rebaseHealth } from "./health-state.js";
import { LifeSchema, monotonicMs, readState, rebaseLife, saveLife } from "./life.js";
import { heldBy, loadSpec } from "./store.js";

/** The migration that has the container, or is about to have it, or has brought it and is not through. Null when none. */
export async function movedBy(name: string): Promise<string | null> {
  return (await heldBy(name)) ?? (await readIfThere(containerPaths(name).moving))?.trim() ?? null;
}

export async function setMoving(name: string, migration: string): Promise<void> {
  await writeAtomic(containerPaths(name).moving, migration);
}

/** A migration is through with it, either way. Another's mark stays. */
export async function clearMoving(name: string, migration: string): Promise<void> {
  const { moving, frozenAt } = containerPaths(name);
  await remove(frozenAt);
  if ((await readIfThere(moving))?.trim() === migration) await remove(moving);
}

/** The container has just been frozen: from here on its times stand still. */
export async function noteFreeze(name: string): Promise<void> {
  await writeAtomic(containerPaths(name).frozenAt, String(Math.round(monotonicMs())));
}

const MOST_BYTES = 64 * 1024;
/** Of what was typed and is unread (native/guest/unread.c). */
const MOST_INPUT_BYTES = 2 * 1024 * 1024;

/** Each with the most that it may have. */
function filesBeside(name: string): [path: string, mostBytes: number][] {
  const { life, health, frozenAt, input } = containerPaths(name);
  return [
    ...[life, health, frozenAt].map((path): [string, number] => [path, MOST_BYTES]),
    [input, MOST_INPUT_BYTES],
  ];
}

/** Files that move beside the writable layer and the log, by their names in the container's directory. */
export async function movingFiles(name: string): Promise<string[]> {
  const there: string[] = [];
  for (const [path] of filesBeside(name)) if (await exists(path)) there.push(basename(path));
  return there;
}

/** After they have come, from a VM that may not be honest: what is no small file is not ours. */
export async function checkMovingFiles(name: string): Promise<void> {
  for (const [path, mostBytes] of filesBeside(name)) {
    if (!(await exists(path))) continue;
    const found = await lstat(path);
    if (found.isFile() && found.size <= mostBytes) continue;
    log("warn", `${path} is not what it should be, and is left out`);
    await remove(path);
  }
}

/** The container has come from another VM and runs. Its times become those of this VM's clock; none runs on for what the move took. */
export async function arrive(name: string): Promise<void> {
  const paths = containerPaths(name);
  const frozenAt = await readNumber(paths.frozenAt);
  if (frozenAt === null) return;
  const now = monotonicMs();
  const shift = now - frozenAt;
  const [life, health, spec] = await Promise.all([
    readState(paths.life, LifeSchema),
    readState(paths.health, HealthFileSchema),
    loadSpec(name),
  ]);
  if (life !== null) await saveLife(name, rebaseLife(life, shift));
  if (health !== null && spec.health !== null)
    await writeAtomic(paths.health, JSON.stringify(rebaseHealth(health, spec.health, shift, now)));
  await remove(paths.frozenAt);
}

/**
 * runc in a container's time namespace. CRIU restores every container into one, so that its clocks go on as if they were still those
 * of the other VM, and runc 1.1 knows of none: what it executes there would have the clocks of this VM, and could not move along with
 * the container again.
 */
import { mkdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { readText, writeFile } from "../memory-files.js";
import { mustRun } from "../process.js";

/** Boot-clock ticks at which a process was started, as the reader's time namespace has it: field 22 of proc_pid_stat(5). */
export const startOf = (stat: string): string => stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";

/**
 * Words that start a command line of runc which executes something in a container. Where the container has a time namespace of its
 * own, runc itself is in it. There the start of a process reads otherwise, by which runc tells a container's first process from
 * another that has got its pid; so it is shown a copy of its record in which the start reads as it does there.
 * @param state file in which runc keeps what it knows of the container
 * @param init pid of the container's first process
 * @param dir of the execution, which goes with it
 */
export async function runcInItsTime(
  state: string,
  name: string,
  init: number,
  dir: string,
): Promise<[program: string, ...args: string[]]> {
  const namespace = `/proc/${init}/ns/time`;
  // A kernel without them has no such link.
  const [own, its] = await Promise.all(
    ["/proc/self/ns/time", namespace].map((link) => readlink(link).catch(() => "")),
  );
  if (own === its) return ["runc"];
  const enter = ["nsenter", `--time=${namespace}`] as const;
  const root = join(dir, "runc");
  await mkdir(join(root, name), { recursive: true, mode: 0o711 });
  const [known, stat] = await Promise.all([
    readText(state),
    mustRun([...enter, "cat", `/proc/${init}/stat`]),
  ]);
  const shown = known.replace(/"init_process_start":\d+/, `"init_process_start":${startOf(stat)}`);
  await writeFile(join(root, name, "state.json"), shown);
  return [...enter, "runc", "--root", root];
}

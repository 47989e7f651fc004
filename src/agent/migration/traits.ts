/**
 * What CRIU leaves behind of a container's threads: timer slack and I/O priority (native/guest/traits.c). It travels as a file among
 * the images, which is there only where a thread has other than the usual.
 */
import { join } from "node:path";
import { MwarpError } from "../../errors.js";
import type { Task } from "../../protocol/agent.js";
import { readIfThere } from "../files.js";
import type { Helper } from "../helper.js";
import { writeFile } from "../memory-files.js";

const FILE = "mwarp-traits.txt";

/** Beside the images of the frozen tasks. @param images directory of CRIU's images */
export async function keepTraits(images: string, tasks: readonly Task[], helper: Helper): Promise<void> {
  const text = await helper.traits(tasks.map(({ pid }) => pid));
  if (text !== "") await writeFile(join(images, FILE), translate(text, "pid", "nsPid", tasks));
}

/** To the restored tasks, which are held. `MWARP_E_RESTORE` when one cannot get what it had. */
export async function giveTraits(images: string, tasks: readonly Task[], helper: Helper): Promise<void> {
  const text = await readIfThere(join(images, FILE));
  if (text === null) return;
  try {
    await helper.setTraits(translate(text, "nsPid", "pid", tasks));
  } catch (cause) {
    throw new MwarpError("MWARP_E_RESTORE", "timer slack or I/O priority of a thread cannot be set", {
      cause,
    });
  }
}

/** Lines begin with a pid: with that of the guest here, with that inside the container on their way. */
export function translate(
  text: string,
  from: "pid" | "nsPid",
  to: "pid" | "nsPid",
  tasks: readonly Task[],
): string {
  const pids = new Map(tasks.map((task) => [String(task[from]), String(task[to])]));
  return text.replace(/^\d+/gm, (pid) => {
    const translated = pids.get(pid);
    if (translated === undefined) throw new MwarpError("MWARP_E_RUNTIME", `no task has the pid ${pid}`);
    return translated;
  });
}

/** What the command line reads of /proc itself. */
import { readFileSync } from "node:fs";

/** Start time of a process (field 22 of /proc/PID/stat), or null when there is none. */
export function startTimeOf(pid: number): string | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The second field, the command name, may hold spaces and parentheses itself.
    return text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

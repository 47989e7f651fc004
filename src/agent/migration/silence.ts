/**
 * What stands still says nothing: neither what the kernel still sends for the frozen tasks, nor what CRIU puts back into the queues
 * of the restored, reaches another of the container's own sockets (native/guest/quiet.c). The fence is for all others.
 */

import type { Helper } from "../helper.js";
import { log } from "../log.js";

/** Where the kernel cannot do it, the move goes on: most containers have no connections to themselves, and most of those are idle. */
export async function silence(cgroup: string, helper: Helper): Promise<void> {
  await helper
    .quiet(cgroup, true)
    .catch((error: unknown) => log("warn", `${cgroup}: not silent: ${String(error)}`));
}

/** Before the tasks run: a container that stays silent must not be let go. To be repeated at will. */
export async function endSilence(cgroup: string, helper: Helper): Promise<void> {
  await helper.quiet(cgroup, false);
}

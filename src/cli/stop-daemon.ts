/** Ends a daemon that has nothing left to do. */
import { existsSync } from "node:fs";
import { isMwarpError } from "../errors.js";
import { daemonLockFile, daemonSocket } from "../paths.js";
import { connect, connectIfRunning, type Say, stopDaemon } from "./connect.js";
import type { Io } from "./io.js";

/**
 * Ends the daemon unless a VM is attached or something runs. Returns whether it was ended. The files of a daemon that was
 * killed are cleared by a new one, which alone can tell that nobody else is about to use them.
 */
export async function stopUnusedDaemon(io: Io, say: Say): Promise<boolean> {
  const leftovers = existsSync(daemonSocket(io.env)) || existsSync(daemonLockFile(io.env));
  const found = await connectIfRunning(io);
  const client = found?.client ?? (leftovers ? await connect(io, say) : null);
  if (client === null) return false;
  try {
    await stopDaemon(client, { ifUnused: true });
    return true;
  } catch (error) {
    if (isMwarpError(error, "MWARP_E_BUSY")) return false;
    throw error;
  }
}

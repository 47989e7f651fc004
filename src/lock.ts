/**
 * Locks between processes: the holder listens on an abstract UNIX socket. The kernel frees the name when the holder
 * dies, however it dies: there are no stale locks.
 */
import { createHash } from "node:crypto";
import { createServer, type Server } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { MwarpError } from "./errors.js";

export interface LockOptions {
  signal?: AbortSignal | undefined;
  /** How long to wait for another holder, ms; 0 gives up at once. */
  waitMs: number;
  /** Said when somebody else holds it. */
  busy: string;
  /** Called once when waiting begins. */
  onWait?: () => void;
}

function listen(name: string): Promise<Server | null> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(null);
      else reject(error);
    });
    server.listen(name, () => resolve(server));
  });
}

/**
 * Runs `action` while holding the lock of `kind` on `path`.
 * @throws MWARP_E_BUSY when another process holds it for longer than `waitMs`; MWARP_E_CANCELLED.
 */
export async function withLock<T>(
  kind: string,
  path: string,
  options: LockOptions,
  action: () => Promise<T>,
): Promise<T> {
  const digest = createHash("sha256").update(path).digest("hex").slice(0, 24);
  const name = `\0mwarp-${kind}-${digest}`;
  const deadline = performance.now() + options.waitMs;
  let server = await listen(name);
  if (server === null) options.onWait?.();
  while (server === null) {
    if (options.signal?.aborted) throw new MwarpError("MWARP_E_CANCELLED", `cancelled: ${options.busy}`);
    if (performance.now() >= deadline) throw new MwarpError("MWARP_E_BUSY", options.busy);
    await sleep(200);
    server = await listen(name);
  }
  try {
    return await action();
  } finally {
    server.close();
  }
}

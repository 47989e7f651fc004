/** The API on a UNIX socket. */
import { chmodSync, rmSync } from "node:fs";
import type { Server } from "node:http";
import { createAdaptorServer } from "@hono/node-server";
import type { Hono } from "hono";

/** Owner and group may connect: whoever may drive mWarp is root on this host. */
const SOCKET_MODE = 0o660;

/**
 * Listens. The caller holds the daemon's lock, so a socket file that is there is a dead daemon's and is replaced.
 * @throws Error when the path is too long for a socket (107 bytes) or cannot be made
 */
export async function listen(app: Hono, socket: string): Promise<Server> {
  rmSync(socket, { force: true });
  const server = createAdaptorServer({ fetch: app.fetch }) as Server;
  // exec and event streams last as long as what they follow.
  server.requestTimeout = 0;
  const umask = process.umask(0o117);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(socket, resolve);
    });
  } finally {
    process.umask(umask);
  }
  chmodSync(socket, SOCKET_MODE);
  return server;
}

/** Stops accepting, ends open streams after `graceMs`, and waits until all connections are gone. */
export async function closeServer(server: Server, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearTimeout(timer);
}

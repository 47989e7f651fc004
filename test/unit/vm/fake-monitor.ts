/** A QMP monitor that answers as a test wants, for what a real QEMU does only when it is ill, or elsewhere. */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach } from "vitest";

const greeting =
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}\r\n';
const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

/** Path of the socket of a monitor that lasts as long as the test. */
export async function monitor(
  onLine: (socket: Socket, line: string) => void,
  first = greeting,
): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "mwarp-qmp-"));
  const sockets: Socket[] = [];
  const server: Server = createServer((socket) => {
    sockets.push(socket);
    socket.write(first);
    socket.on("data", (data) => {
      for (const line of data.toString().trim().split("\r\n")) onLine(socket, line);
    });
  });
  const path = join(directory, "s");
  await new Promise<void>((resolve) => server.listen(path, resolve));
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return path;
}

export const answer = (socket: Socket, line: string, result: unknown = {}): void => {
  socket.write(`${JSON.stringify({ return: result, id: JSON.parse(line).id })}\r\n`);
};

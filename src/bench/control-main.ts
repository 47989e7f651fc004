/**
 * Carries lines between the benchmark and a container's control port, from inside the lab's network namespace:
 * `control-main.js HOST PORT LIMIT_MS`. Says "connected" once the port answers, ends when either side does.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const RETRY_MS = 100;
const CONNECT_MS = 2000;

const [host, portText, limitText] = process.argv.slice(2);
const port = Number(portText);
const limitMs = Number(limitText);
if (!host || !Number.isInteger(port) || !(limitMs > 0)) {
  process.stderr.write("usage: control-main.js HOST PORT LIMIT_MS\n");
  process.exit(2);
}

/** Null when nobody listens yet. */
async function attempt(): Promise<Socket | null> {
  const socket = connect({ host, port });
  try {
    await once(socket, "connect", { signal: AbortSignal.timeout(CONNECT_MS) });
    return socket;
  } catch {
    // The program still fills its memory: the reason to try again.
    socket.destroy();
    return null;
  }
}

const deadline = performance.now() + limitMs;
let socket = await attempt();
while (socket === null) {
  if (performance.now() > deadline) {
    process.stderr.write(`nobody answers at ${host}:${port}\n`);
    process.exit(1);
  }
  await sleep(RETRY_MS);
  socket = await attempt();
}
socket.setNoDelay(true);
process.stdout.write("connected\n");
process.stdin.pipe(socket).pipe(process.stdout);
const end = (reason: string): void => {
  process.stderr.write(`${reason}\n`);
  process.exit(1);
};
socket.on("error", (error) => end(error.message));
socket.on("close", () => end("the container closed the connection"));
process.stdin.on("end", () => process.exit(0));
// A Ctrl-C at the terminal reaches the whole process group; the benchmark says when this process ends.
process.on("SIGINT", () => undefined);

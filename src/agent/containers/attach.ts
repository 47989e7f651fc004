/**
 * Whoever is attached to a container: its log as it grows, and what is typed for its terminal. The log moves with the container, and
 * its bytes are where they were: one who goes on where it stopped misses nothing and sees nothing twice.
 */
import { once } from "node:events";
import { watch } from "node:fs";
import { readFile } from "node:fs/promises";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { MwarpError } from "../../errors.js";
import type { AgentParams, AgentResult } from "../../protocol/agent.js";
import {
  type AttachNote,
  encodeTerminalFrame,
  FrameKinds,
  TerminalFrameReader,
} from "../../protocol/terminal.js";
import { exists, readNumber } from "../files.js";
import { log } from "../log.js";
import type { RequestContext } from "../methods.js";
import { containerPaths } from "../paths.js";
import type { UpStream } from "../streams.js";
import { begunLine, sendFrom } from "./logs.js";
import { heldBy, initPid, loadSpec } from "./store.js";
import { connectTerminal, stdioOf } from "./terminal.js";

/** The log is looked at when it has changed, and now and then in any case. */
const LOOK_MS = 200;
/** The shim says what it has taken at once; it ends when the container has. */
const SHIM_END_MS = 1_000;
const mayPass: readonly string[] = [FrameKinds.typed, FrameKinds.window];

/** `MWARP_E_BUSY` for a container that a migration has. */
export async function attachContainer(
  { name, from }: AgentParams<"container.attach">,
  context: RequestContext,
): Promise<AgentResult<"container.attach">> {
  const spec = await loadSpec(name);
  const migration = await heldBy(name);
  if (migration !== null)
    throw new MwarpError("MWARP_E_BUSY", `migration ${migration} has container ${name}`);
  const terminal = stdioOf(spec) === "terminal";
  // Connected before the log is looked at: from here on a line is not waited for to end.
  const shim = terminal ? await connectTerminal(name) : null;
  const note = (what: AttachNote) => context.down.write(Buffer.from(JSON.stringify(what)), { fd: 0 });
  const ended = shim === null ? Promise.resolve() : once(shim, "close");
  try {
    const { log: path } = containerPaths(name);
    const position = from ?? (await positionOfBegun(path));
    await note({ note: "at", position, terminal: shim !== null });
    if (shim !== null) hearShim(shim, note);
    passOn(context.up, shim).catch((error: unknown) => log("debug", `attach ${name}: ${String(error)}`));
    await follow(name, position, shim, context);
    const exitCode = (await heldBy(name)) === null ? await readNumber(containerPaths(name).exit) : null;
    // What it has taken last it may still be about to say.
    await Promise.race([ended, sleep(SHIM_END_MS)]);
    return { exitCode };
  } finally {
    shim?.destroy();
  }
}

async function positionOfBegun(path: string): Promise<number> {
  return (await exists(path)) ? begunLine(await readFile(path)) : 0;
}

function hearShim(shim: Socket, note: (what: AttachNote) => Promise<void>): void {
  const frames = new TerminalFrameReader();
  shim.on("error", (error) => log("debug", `a terminal: ${error.message}`));
  shim.on("data", (data: Buffer) => {
    for (const { kind, bytes } of frames.push(data))
      if (kind === FrameKinds.taken)
        note({ note: "taken", bytes: bytes.readUInt32LE(0) }).catch((error: unknown) =>
          log("debug", `a terminal: ${String(error)}`),
        );
  });
}

/** Only what somebody attached may say. What comes for a container without a terminal is read and forgotten. */
async function passOn(up: UpStream, shim: Socket | null): Promise<void> {
  const frames = new TerminalFrameReader();
  for await (const data of up) {
    for (const { kind, bytes } of frames.push(data)) {
      const known = Object.values(FrameKinds).find((one) => one === kind && mayPass.includes(one));
      if (known === undefined || shim === null) continue;
      if (!shim.write(encodeTerminalFrame(known, bytes)))
        await Promise.race([once(shim, "drain"), once(shim, "close")]);
    }
  }
}

/** To the end of the container, or until it is not here any more; one that is started again has another shim. */
async function follow(
  name: string,
  position: number,
  shim: Socket | null,
  context: RequestContext,
): Promise<void> {
  const { dir, log: path } = containerPaths(name);
  let look = (): void => undefined;
  const watcher = watch(dir, { persistent: false }, () => look());
  watcher.on("error", (error) => log("debug", `attach ${name}: ${error.message}`));
  const timer = setInterval(() => look(), LOOK_MS);
  const stop = (): void => look();
  context.signal.addEventListener("abort", stop);
  shim?.on("close", stop);
  try {
    for (;;) {
      // Before anything is looked at: what changes meanwhile is looked at again.
      const change = new Promise<void>((resolve) => {
        look = resolve;
      });
      const running = (await initPid(name)) !== null && shim?.closed !== true;
      position = await sendFrom(path, position, context);
      if (!running) return;
      context.signal.throwIfAborted();
      await change;
    }
  } finally {
    clearInterval(timer);
    watcher.close();
    context.signal.removeEventListener("abort", stop);
  }
}

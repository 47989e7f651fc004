/** A container's terminal, of which its shim has the master (native/guest/terminal.h). */
import { connect, type Socket } from "node:net";
import { constants } from "node:os";
import { MwarpError } from "../../errors.js";
import { type ContainerSpec, hasTerminal } from "../../protocol/container.js";
import { encodeTerminalFrame, FrameKinds, TerminalFrameReader } from "../../protocol/terminal.js";
import { exists } from "../files.js";
import type { Stdio } from "../job.js";
import { log, timed } from "../log.js";
import { containerPaths } from "../paths.js";

/** What nobody has read is a few KiB; a shim that does not answer by then never will. */
const ANSWER_TIMEOUT_MS = 10_000;

/** What its configuration gives a container. */
export const stdioOf = (spec: ContainerSpec): Stdio => (hasTerminal(spec) ? "terminal" : "pipes");

/** A connection to the shim of a container's terminal; null when there is none: the container has ended. */
export function connectTerminal(name: string): Promise<Socket | null> {
  return new Promise((resolve, reject) => {
    const socket = connect(containerPaths(name).terminal);
    socket.once("connect", () => resolve(socket));
    socket.once("error", (cause: NodeJS.ErrnoException) => {
      if (cause.code === "ENOENT" || cause.code === "ECONNREFUSED") resolve(null);
      else reject(new MwarpError("MWARP_E_RUNTIME", `the terminal of ${name}: ${cause.message}`, { cause }));
    });
  });
}

/**
 * What was typed and nobody has read goes into a file that moves with the container; until it is given back nothing typed is
 * accepted. The container stands still. `MWARP_E_RUNTIME` when it could not be taken.
 */
export async function takeUnread(spec: ContainerSpec): Promise<void> {
  if (stdioOf(spec) === "pipes") return;
  const errno = await timed("unread input", () => ask(spec.name, FrameKinds.take));
  if (errno !== 0)
    throw new MwarpError(
      "MWARP_E_RUNTIME",
      `what was typed for ${spec.name} could not be kept: ${errorName(errno)}`,
    );
}

/**
 * Gives a container that stands still what was taken, on either side. It has lost it when that fails, which is no reason to lose the
 * container.
 */
export async function giveUnread(name: string): Promise<void> {
  const { terminal } = containerPaths(name);
  if (!(await exists(terminal))) return;
  try {
    const errno = await timed("unread input", () => ask(name, FrameKinds.give));
    if (errno !== 0) log("error", `${name}: what was typed and not read is lost: ${errorName(errno)}`);
  } catch (error) {
    log("error", `${name}: its terminal does not answer: ${String(error)}`);
  }
}

const errorName = (errno: number): string =>
  Object.entries(constants.errno).find(([, value]) => value === -errno)?.[0] ?? String(errno);

/** The shim's answer to a question: 0 or a negative errno. */
async function ask(name: string, kind: typeof FrameKinds.take | typeof FrameKinds.give): Promise<number> {
  const socket = await connectTerminal(name);
  if (socket === null) throw new MwarpError("MWARP_E_RUNTIME", `the shim of ${name} is gone`);
  const frames = new TerminalFrameReader();
  try {
    return await new Promise<number>((resolve, reject) => {
      socket.setTimeout(ANSWER_TIMEOUT_MS, () =>
        reject(new MwarpError("MWARP_E_TIMEOUT", `the shim of ${name} did not answer`)),
      );
      socket.on("error", reject);
      socket.on("close", () =>
        reject(new MwarpError("MWARP_E_RUNTIME", `the shim of ${name} ended without an answer`)),
      );
      socket.on("data", (data: Buffer) => {
        for (const frame of frames.push(data)) if (frame.kind === kind) resolve(frame.bytes.readInt32LE(0));
      });
      socket.write(encodeTerminalFrame(kind));
    });
  } finally {
    socket.destroy();
  }
}

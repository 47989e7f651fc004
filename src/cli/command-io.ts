/** The streams of a command that runs elsewhere, connected to this process's own. */
import { once } from "node:events";
import type { ExecIo } from "../daemon/client.js";
import type { InStream, Io } from "./io.js";

export function commandIo(io: Io, stdin: InStream | null, signal: AbortSignal): ExecIo {
  return {
    stdin,
    signal,
    write: async (fd, data) => {
      const stream = fd === 2 ? io.stderr : io.stdout;
      if (!stream.write(data)) await once(stream, "drain");
    },
  };
}

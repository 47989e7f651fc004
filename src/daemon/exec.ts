/** A command in a guest or container as a stream of events: output as it comes, then the exit code. */
import type { CallOptions } from "../migration/ports.js";
import type { ExecEvent } from "../protocol/api.js";
import { EventQueue } from "./queue.js";

/** As long as a timer can be (24 days): commands and followed logs last as long as they last. */
export const NO_TIMEOUT_MS = 2 ** 31 - 1;

export interface ExecCall {
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly signal: AbortSignal;
}

/** Turns one agent call with an up and a down stream into events. Ending the iteration early cancels the call. */
export async function* streamExec(
  call: (options: CallOptions) => Promise<{ exitCode: number }>,
  { stdin, signal }: ExecCall,
): AsyncGenerator<ExecEvent, void> {
  const stop = new AbortController();
  const queue = new EventQueue<ExecEvent>();
  const running = call({
    signal: AbortSignal.any([signal, stop.signal]),
    timeoutMs: NO_TIMEOUT_MS,
    up: stdin,
    onChunk: (data, { fd }) =>
      queue.push({ event: "data", fd: fd === 2 ? 2 : 1, base64: Buffer.from(data).toString("base64") }),
  });
  queue.endWith(running, ({ exitCode }) => ({ event: "exit", exitCode }));
  try {
    yield* queue;
  } finally {
    stop.abort();
  }
}

/** A container's log file, written by its shim. */
import { open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { AgentParams } from "../../protocol/agent.js";
import { exists } from "../files.js";
import type { RequestContext } from "../methods.js";
import { containerPaths } from "../paths.js";
import { initPid, loadSpec } from "./store.js";

const FOLLOW_MS = 200;
const READ_BYTES = 256 * 1024;

/** Bytes of the file from `at` on; how far it came. */
export async function sendFrom(path: string, at: number, context: RequestContext): Promise<number> {
  if (!(await exists(path))) return at;
  const file = await open(path, "r");
  try {
    const buffer = Buffer.alloc(READ_BYTES);
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) return at;
      await context.down.write(Buffer.from(buffer.subarray(0, bytesRead)), { fd: 1 });
      at += bytesRead;
    }
  } finally {
    await file.close();
  }
}

/** Time, stream, tag: no longer than this, and the tag says P where the line goes on in the next of its stream. */
const HEAD_BYTES = 64;
const PARTIAL = /^\S+ \S+ P /;

/** Where the last `lines` lines begin. One that was cut counts once. */
export function tailOffset(data: Buffer, lines: number): number {
  if (lines === 0) return data.length;
  let left = lines;
  // The newline that ends the last line does not begin one.
  let newline = data.length - 1;
  while (newline > 0) {
    const start = newline;
    newline = data.lastIndexOf(0x0a, start - 1);
    const before = data.lastIndexOf(0x0a, newline - 1) + 1;
    const goesOn = newline > 0 && PARTIAL.test(data.toString("latin1", before, before + HEAD_BYTES));
    if (!goesOn && --left === 0) return newline + 1;
  }
  return 0;
}

/** Where the last line begins when it is not finished; else the end. */
export function begunLine(data: Buffer): number {
  const last = data.lastIndexOf(0x0a, data.length - 2) + 1;
  if (!PARTIAL.test(data.toString("latin1", last, last + HEAD_BYTES))) return data.length;
  return tailOffset(data, 1);
}

async function startOf(path: string, tail: number | null): Promise<number> {
  if (tail === null || !(await exists(path))) return 0;
  const file = await open(path, "r");
  try {
    return tailOffset(await file.readFile(), tail);
  } finally {
    await file.close();
  }
}

export async function containerLogs(
  params: AgentParams<"container.logs">,
  context: RequestContext,
): Promise<Record<string, never>> {
  await loadSpec(params.name);
  const { log } = containerPaths(params.name);
  let at = await startOf(log, params.tail);
  for (;;) {
    // Asked before reading, so that the last lines of a container that ends meanwhile are not missed.
    const running = (await initPid(params.name)) !== null;
    at = await sendFrom(log, at, context);
    if (!params.follow || !running) return {};
    await sleep(FOLLOW_MS, undefined, { signal: context.signal });
  }
}

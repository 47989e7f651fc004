/**
 * Free memory in pieces of 2 MiB for a container that comes with huge pages. Populating it would find none in memory that is free
 * only in small pieces: the kernel then compacts page by page while the container stands still, or gives small pages where the
 * program did not ask for huge ones. So memory is compacted ahead, while the container still runs on the other side.
 */
import { readFile } from "node:fs/promises";
import { toMwarpError } from "../../errors.js";
import { HUGE_BYTES, PAGE_BYTES } from "../../units.js";
import { log, timed } from "../log.js";
import { mustRun } from "../process.js";

/** Compaction of a GiB takes some 100 ms, ten times that under emulation. What is not done by then is left. */
const COMPACT_MS = 10_000;

/** Free bytes in blocks of 2 MiB and more, by the text of /proc/buddyinfo: blocks of 4 KiB, 8 KiB, ... in each zone. */
export function freeHugeBytes(buddyinfo: string): number {
  let bytes = 0;
  for (const line of buddyinfo.split("\n")) {
    const [, counts] = /zone\s+\S+\s+([\d ]+)$/.exec(line.trimEnd()) ?? [];
    for (const [order, count] of (counts ?? "").trim().split(/ +/).entries()) {
      const block = PAGE_BYTES * 2 ** order;
      if (block >= HUGE_BYTES) bytes += Number(count) * block;
    }
  }
  return bytes;
}

/** Compacts memory unless there is room for `bytes` of huge pages. A guest that cannot gives small pages: never an error. */
export async function makeHugeRoom(bytes: number): Promise<void> {
  if (bytes === 0) return;
  try {
    if (freeHugeBytes(await readFile("/proc/buddyinfo", "utf8")) >= bytes) return;
    // As a process: the kernel's work ends when that is killed.
    await timed("compact", () =>
      mustRun(["sh", "-c", "echo 1 > /proc/sys/vm/compact_memory"], { timeoutMs: COMPACT_MS }),
    );
  } catch (error) {
    log("warn", `memory was not compacted: ${toMwarpError(error).message}`);
  }
}

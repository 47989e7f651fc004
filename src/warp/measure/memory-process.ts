/**
 * A process that stands for a VMM where this host is measured (native/memory): a memory file of one kind, mapped, and the
 * library preloaded. No VM is needed, and none is touched.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { MwarpError } from "../../errors.js";
import { distFile } from "../../paths.js";
import type { MemoryKind } from "../../protocol/costs.js";
import { byteCount, gpa, HUGE_BYTES, hva, PAGE_BYTES } from "../../units.js";
import { BackingReader } from "../../vm/backing.js";
import { deferred, limited } from "../../vm/deferred.js";
import type { MemoryLayout } from "../../vm/types.js";
import { VmmLibrary } from "../../vm/vmm-library.js";
import { RamMap } from "../ram-map.js";

/** Exit status of native/memory where the host has no such memory. */
const NO_MEMORY = 3;
/** For one answer; filling a gigabyte takes less than a second. */
const ANSWER_MS = 10_000;

export class MemoryProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #answers: Answers;
  readonly layout: MemoryLayout;
  readonly library: VmmLibrary;
  readonly backing: BackingReader;
  readonly ram: RamMap;

  private constructor(child: ChildProcess, answers: Answers, layout: MemoryLayout, library: VmmLibrary) {
    this.#child = child;
    this.#answers = answers;
    this.layout = layout;
    this.library = library;
    this.backing = new BackingReader(pidOf(child), layout);
    this.ram = new RamMap(layout);
  }

  /**
   * @param socket path for the library's socket
   * @returns null when this host has no such memory now
   */
  static async start(
    kind: MemoryKind,
    pages: number,
    socket: string,
    signal: AbortSignal,
  ): Promise<MemoryProcess | null> {
    signal.throwIfAborted();
    const child = spawn(distFile("native", "mwarp-memory"), [kind, String(pages)], {
      stdio: ["pipe", "pipe", "ignore"],
      env: { LD_PRELOAD: distFile("native", "libmwarp-vmm.so"), MWARP_VMM_SOCKET: socket },
    });
    try {
      const answers = new Answers(child, child.stdout);
      const address = await answers.next(signal);
      if (address === null) return null;
      const bytes = byteCount(pages * PAGE_BYTES);
      const layout = {
        regions: [{ gpa: gpa(0), hva: hva(Number.parseInt(address, 16)), bytes }],
        bytes,
        hostPageBytes: byteCount(kind === "hugetlb" ? HUGE_BYTES : PAGE_BYTES),
        transparentHuge: kind === "thp",
      };
      const library = await VmmLibrary.connect(socket, { signal });
      // Nobody else is to connect, and nothing is to be left should this process be killed.
      rmSync(socket);
      await library.region(layout.regions[0].hva, bytes, { signal });
      return new MemoryProcess(child, answers, layout, library);
    } catch (error) {
      await end(child);
      throw error;
    }
  }

  get pid(): number {
    return pidOf(this.#child);
  }

  /** Writes to every page. @returns microseconds */
  async touch(signal: AbortSignal): Promise<number> {
    this.#child.stdin?.write("touch\n");
    const nanoseconds = Number(await this.#answers.next(signal));
    if (!Number.isFinite(nanoseconds)) throw gone();
    return nanoseconds / 1000;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.library.close();
    await end(this.#child);
  }
}

const pidOf = (child: ChildProcess): number => child.pid ?? 0;

const gone = (cause?: unknown): MwarpError =>
  new MwarpError("MWARP_E_INTERNAL", "the process that stands for a VMM has ended", { cause });

/** What it says, line by line. */
class Answers {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  /** Of a program that cannot be started. */
  readonly #failure = deferred<never>();

  constructor(child: ChildProcess, stdout: Readable) {
    this.#child = child;
    this.#lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
    child.on("error", (error) => this.#failure.reject(gone(error)));
    // Its end is seen on stdout; a line to one that has ended is no other news.
    child.stdin?.on("error", () => undefined);
  }

  /** Null when it has ended for want of such memory. */
  async next(signal: AbortSignal): Promise<string | null> {
    const { value, done } = await limited(Promise.race([this.#lines.next(), this.#failure.promise]), {
      timeoutMs: ANSWER_MS,
      signal,
      onTimeout: () => new MwarpError("MWARP_E_TIMEOUT", "the process that stands for a VMM does not answer"),
    });
    if (done !== true) return value;
    await ended(this.#child);
    if (this.#child.exitCode === NO_MEMORY) return null;
    throw gone();
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  await new Promise((resolve) => child.once("exit", resolve));
}

async function end(child: ChildProcess): Promise<void> {
  child.kill("SIGKILL");
  await ended(child);
}

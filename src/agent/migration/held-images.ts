/**
 * Image files whose frames the host exchanges: kept mapped by a process of their own (native/guest/hold.c), whose page tables say
 * where they lie. It is started before the container is frozen, as to start it takes longer than to map a file, and ends with the
 * agent, or when the files of its migration are removed.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { MwarpError } from "../../errors.js";
import type { AgentResult } from "../../protocol/agent.js";
import { type HeldFile, HOLDER_TASK } from "../../protocol/images.js";
import { PAGE_BYTES } from "../../units.js";
import { kernelFacts } from "../kernel/facts.js";
import { taskRoots } from "../kernel/roots.js";
import { HELPER, migrationPaths } from "../paths.js";

/** `read`: the file is there, and stays as it is. `make`: it is made, and every page of it is written to. */
type Way = "read" | "make";

class ImageHolder {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #answers: AsyncIterator<string>;

  constructor() {
    this.#child = spawn(HELPER, ["hold"], { stdio: ["pipe", "pipe", "ignore"] });
    // One that could not be started, or has ended, is found out by the answer that does not come.
    this.#child.on("error", () => undefined);
    this.#child.stdin.on("error", () => undefined);
    const lines: Interface = createInterface({ input: this.#child.stdout });
    this.#answers = lines[Symbol.asyncIterator]();
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw ended();
    return this.#child.pid;
  }

  /** @throws MWARP_E_RUNTIME when it cannot be held */
  async hold(way: Way, directory: string, { name, page, bytes }: HeldFile): Promise<void> {
    const address = BigInt(page) * BigInt(PAGE_BYTES);
    this.#child.stdin.write(`${way} ${address} ${bytes} ${join(directory, name)}\n`);
    const answer = await this.#answers.next();
    if (answer.done === true) throw ended();
    if (answer.value !== "0")
      throw new MwarpError("MWARP_E_RUNTIME", `image ${name} could not be held (errno ${answer.value})`);
  }

  end(): void {
    this.#child.kill("SIGKILL");
  }
}

const ended = (): MwarpError => new MwarpError("MWARP_E_RUNTIME", "the process that holds images has ended");

const holders = new Map<string, ImageHolder>();

/** Has a process wait for what it is to hold for a migration. */
export function startHolder(migration: string): void {
  endHolder(migration);
  holders.set(migration, new ImageHolder());
}

/** The files go on, and are no longer mapped here. */
export function endHolder(migration: string): void {
  holders.get(migration)?.end();
  holders.delete(migration);
}

/** Holds image files of a migration, in the order of the list. @throws MWARP_E_RUNTIME, nothing is held then */
export async function holdImages(
  migration: string,
  way: Way,
  files: readonly HeldFile[],
): Promise<AgentResult<"source.holdImages">> {
  if (!holders.has(migration)) startHolder(migration);
  const holder = holders.get(migration)!;
  const { images } = migrationPaths(migration);
  try {
    for (const file of files) await holder.hold(way, images, file);
    const { pid } = holder;
    const place = taskRoots(await kernelFacts(), [pid]).get(pid);
    if (place === undefined) throw ended();
    return { root: { pid, nsPid: HOLDER_TASK, ...place } };
  } catch (error) {
    endHolder(migration);
    throw error;
  }
}

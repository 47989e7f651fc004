/** The container whose migrations are measured: started for a cell, moved by one method after the other, checked after each move. */
import { copyFileSync, rmSync, statSync, utimesSync } from "node:fs";
import { dirname, join } from "node:path";
import type { DaemonClient } from "../daemon/client.js";
import { run } from "../lab/exec.js";
import { distFile } from "../paths.js";
import { plainContainer } from "../protocol/api.js";
import { GIB } from "../units.js";
import { Control, type SeenStalls, type Verdict } from "./control.js";
import { containerKey } from "./matrix.js";
import type { Cell } from "./records.js";

const NAME = "bench";
const PORT = 7070;
const PROGRAM = "/usr/bin/mwarp-bench-memory";

/** For whatever goes over all of the memory. Emulated, a slow machine fills 20 MiB/s. */
const limitFor = ({ size }: Pick<Cell, "size">): number => 60_000 + (size / GIB) * 60_000;

/**
 * The root file system: the lab's busybox and the program. Its times are those of the originals, because the archive that is made
 * of it is kept under a digest that counts them.
 */
export async function makeRootfs(busybox: string, target: string, signal: AbortSignal): Promise<void> {
  rmSync(target, { recursive: true, force: true });
  await run(["cp", "-a", busybox, target], { signal });
  const program = distFile("native", "mwarp-bench-memory");
  const copy = join(target, PROGRAM);
  copyFileSync(program, copy);
  const directory = dirname(PROGRAM);
  for (const [from, to] of [
    [program, copy],
    [join(busybox, directory), join(target, directory)],
  ]) {
    const { atime, mtime } = statSync(from);
    utimesSync(to, atime, mtime);
  }
}

/** Where containers can be started. */
export interface ContainerHost {
  readonly daemon: DaemonClient;
  /** Path of the network namespace that the containers are reached from. */
  readonly netns: string;
  readonly rootfs: string;
}

export class BenchContainer {
  /** Equal for every cell that it can be used for. */
  readonly key: string;
  readonly name = NAME;
  /** VM that it runs in. */
  vm: string;
  readonly #control: Control;
  readonly #limitMs: number;

  private constructor(key: string, vm: string, control: Control, limitMs: number) {
    this.key = key;
    this.vm = vm;
    this.#control = control;
    this.#limitMs = limitMs;
  }

  /** Starts the container of a cell; resolves when all of its memory is there. */
  static async start(
    { daemon, netns, rootfs }: ContainerHost,
    cell: Cell,
    vm: string,
    signal: AbortSignal,
  ): Promise<BenchContainer> {
    await daemon.removeIfThere(NAME);
    const { size, processes, pages, write_share } = cell;
    const argv = [PROGRAM, PORT, size, processes, pages, write_share].map(String);
    const listing = await daemon.run(plainContainer(NAME, vm, rootfs, argv), signal);
    const limitMs = limitFor(cell);
    const { ipv4 } = listing.container.spec.network;
    try {
      const control = await Control.open(netns, ipv4, PORT, limitMs, signal);
      return new BenchContainer(containerKey(cell), vm, control, limitMs);
    } catch (error) {
      await daemon.removeIfThere(NAME);
      throw error;
    }
  }

  verify(signal: AbortSignal): Promise<Verdict> {
    return this.#control.verify(this.#limitMs, signal);
  }

  touch(signal: AbortSignal): Promise<number> {
    return this.#control.touch(this.#limitMs, signal);
  }

  renew(signal: AbortSignal): Promise<void> {
    return this.#control.renew(this.#limitMs, signal);
  }

  load(signal: AbortSignal): Promise<void> {
    return this.#control.load(this.#limitMs, signal);
  }

  stalls(signal: AbortSignal): Promise<SeenStalls> {
    return this.#control.stalls(this.#limitMs, signal);
  }

  rest(signal: AbortSignal): Promise<void> {
    return this.#control.rest(this.#limitMs, signal);
  }

  async remove(daemon: DaemonClient): Promise<void> {
    await this.#control[Symbol.asyncDispose]();
    await daemon.removeIfThere(NAME);
  }
}

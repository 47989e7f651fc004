/**
 * The tar that packs the writable layer. To start one takes longer than to pack a small layer: so it is started while the container
 * still runs, and waits for the names of what it is to pack, which it is told once the container stands still. Where none waits, by
 * what chance ever, one is started then. It ends with the agent, whose end closes the pipe that it reads the names from.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { MwarpError } from "../../errors.js";
import { exists } from "../files.js";
import { lastLines } from "../process.js";
import type { DownStream } from "../streams.js";

type Tar = ChildProcessByStdio<Writable, Readable, Readable>;

export class LayerArchive {
  readonly #tar: Tar;
  readonly #dir: string;
  readonly #errors: Buffer[] = [];
  readonly #ended: Promise<number | null>;

  /** @param dir of the container */
  constructor(dir: string) {
    this.#dir = dir;
    const flags = ["--xattrs", "--xattrs-include=*", "--numeric-owner"];
    // Names end with a zero byte, and none is an option.
    const names = ["--null", "--files-from=-"];
    this.#tar = spawn("tar", ["-C", dir, "-cf", "-", ...flags, ...names], {
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#tar.stderr.on("data", (data: Buffer) => this.#errors.push(data));
    // A tar that has ended is found out by its exit code.
    this.#tar.stdin.on("error", () => undefined);
    this.#ended = new Promise((resolve, reject) => {
      this.#tar.on("error", reject);
      this.#tar.on("close", resolve);
    });
    this.#ended.catch(() => undefined);
  }

  /** Whether it can still be told what to pack. */
  get waits(): boolean {
    return this.#tar.pid !== undefined && this.#tar.exitCode === null && this.#tar.signalCode === null;
  }

  /** Packs the writable layer and the log, as they are now. @throws MWARP_E_RUNTIME with tar's last lines */
  async send(down: Pick<DownStream, "write">): Promise<void> {
    const log = (await exists(join(this.#dir, "log"))) ? ["log"] : [];
    this.#tar.stdin.end(["upper", ...log].map((name) => `${name}\0`).join(""));
    try {
      for await (const data of this.#tar.stdout) await down.write(data as Buffer);
    } catch (error) {
      await this.end();
      throw error;
    }
    const code = await this.#ended;
    if (code !== 0) {
      throw new MwarpError("MWARP_E_RUNTIME", `tar exited with ${code}`, {
        details: lastLines(Buffer.concat(this.#errors).toString()),
      });
    }
  }

  /** Kills it, and waits for its end. */
  async end(): Promise<void> {
    this.#tar.kill("SIGKILL");
    this.#tar.stdout.resume();
    await this.#ended.catch(() => undefined);
  }
}

/** Those that wait, by migration. */
const waiting = new Map<string, LayerArchive>();

/** Has one wait for a migration. */
export async function startArchive(migration: string, dir: string): Promise<void> {
  await endArchive(migration);
  waiting.set(migration, new LayerArchive(dir));
}

/** The one that waits, for whoever asks first; else a new one. */
export function takeArchive(migration: string, dir: string): LayerArchive {
  const started = waiting.get(migration);
  waiting.delete(migration);
  return started?.waits === true ? started : new LayerArchive(dir);
}

/** The migration is over: one that still waits is not needed any more. */
export async function endArchive(migration: string): Promise<void> {
  const started = waiting.get(migration);
  waiting.delete(migration);
  await started?.end();
}

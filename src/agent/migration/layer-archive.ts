/**
 * The tar that packs a container's files. To start one takes longer than to pack a few files: so the one for what has changed in the end is
 * started while the container still runs, and waits for the names of what it is to pack, which it is told once the container stands
 * still. It ends with the agent, whose end closes the pipe that it reads the names from.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { MwarpError } from "../../errors.js";
import { lastLines } from "../process.js";
import type { DownStream } from "../streams.js";

type Tar = ChildProcessByStdio<Writable, Readable, Readable>;

/** Status of a tar under which files were changed or removed (GNU tar, "Return values"). */
const CHANGED = 1;

export class LayerArchive {
  readonly #tar: Tar;
  readonly #live: boolean;
  readonly #errors: Buffer[] = [];
  readonly #ended: Promise<number | null>;

  /**
   * @param dir what the names are relative to
   * @param kind `live`: of a running container: directories with all that is in them, which tar follows by descriptors, whatever is put in
   * their place meanwhile. `still`: of a frozen one: just what is named.
   */
  constructor(dir: string, kind: "live" | "still") {
    this.#live = kind === "live";
    const flags = [
      "--xattrs",
      "--xattrs-include=*",
      "--numeric-owner",
      "--sparse",
      "--atime-preserve=system",
    ];
    // Names end with a zero byte, and none is an option.
    const names = [this.#live ? "--recursion" : "--no-recursion", "--null", "--files-from=-"];
    this.#tar = spawn("tar", ["-C", dir, "-cf", "-", ...flags, ...names], {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, LC_ALL: "C", TAR_OPTIONS: "" },
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

  /**
   * Packs what is named.
   * @param names each with a zero byte at its end
   * @throws MWARP_E_RUNTIME with tar's last lines
   */
  async send(names: Uint8Array, down: Pick<DownStream, "write">): Promise<void> {
    this.#tar.stdin.end(names);
    try {
      for await (const data of this.#tar.stdout) await down.write(data as Buffer);
    } catch (error) {
      await this.end();
      throw error;
    }
    const code = await this.#ended;
    if (code === 0 || (this.#live && code === CHANGED)) return;
    throw new MwarpError("MWARP_E_RUNTIME", `tar exited with ${code}`, {
      details: lastLines(Buffer.concat(this.#errors).toString()),
    });
  }

  /** Kills it, and waits for its end. */
  async end(): Promise<void> {
    this.#tar.kill("SIGKILL");
    this.#tar.stdout.resume();
    await this.#ended.catch(() => undefined);
  }
}

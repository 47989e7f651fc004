/** Which CRIU and which OCI runtimes this guest has. */
import { MwarpError } from "../errors.js";
import type { GuestInfo } from "../protocol/guest-info.js";
import { type CommandResult, run } from "./process.js";

export interface ToolVersions {
  /** Null when it is not there, or says nothing that could be a version. */
  readonly criuVersion: string | null;
  readonly runcVersion: string | null;
  readonly crun: GuestInfo["crun"];
}

type Run = (argv: readonly string[], options: { timeoutMs: number }) => Promise<CommandResult>;

/** A guest that has just booted, on a host with others that have, takes its time. */
const VERSION_MS = 120_000;
/** By its soname (crun's src/libcrun/criu.c). */
const CRIU_LIBRARY = "libcriu.so.2";
/** From here on it is the signal that ended it (`shellCode`). */
const KILLED = 128;

/** Asks each tool once: versions do not change while the agent runs. One that could not be asked is asked again by the next call. */
export class ToolFinder {
  readonly #run: Run;
  #known: Promise<ToolVersions> | null = null;

  constructor(runCommand: Run = run) {
    this.#run = runCommand;
  }

  /** @throws MWARP_E_TIMEOUT, MWARP_E_RUNTIME when a tool that is there did not get to answer */
  versions(): Promise<ToolVersions> {
    this.#known ??= this.#ask().catch((error: unknown) => {
      this.#known = null;
      throw error;
    });
    return this.#known;
  }

  async #ask(): Promise<ToolVersions> {
    const [criuVersion, runcVersion, crun] = await Promise.all([
      this.#version(["criu", "--version"], /Version: (\S+)/),
      this.#version(["runc", "--version"], /runc version (\S+)/),
      this.#crun(),
    ]);
    return { criuVersion, runcVersion, crun };
  }

  /** It loads CRIU's library when it is to use it. */
  async #crun(): Promise<ToolVersions["crun"]> {
    const [said, libraries] = await Promise.all([
      this.#said(["crun", "--version"]),
      this.#said(["ldconfig", "-p"]),
    ]);
    const version = /crun version (\S+)/.exec(said ?? "")?.[1];
    if (version === undefined) return null;
    const criu = /\s\+CRIU\b/.test(said ?? "") && (libraries ?? "").includes(CRIU_LIBRARY);
    return { version, criu };
  }

  async #version(argv: readonly string[], pattern: RegExp): Promise<string | null> {
    return pattern.exec((await this.#said(argv)) ?? "")?.[1] ?? null;
  }

  /** Null when it is not there. */
  async #said(argv: readonly string[]): Promise<string | null> {
    try {
      const { code, stdout } = await this.#run(argv, { timeoutMs: VERSION_MS });
      if (code >= KILLED) throw new MwarpError("MWARP_E_RUNTIME", `${argv.join(" ")} was killed (${code})`);
      return stdout;
    } catch (error) {
      if (isMissing(error)) return null;
      throw error;
    }
  }
}

const isMissing = (error: unknown): boolean =>
  error instanceof Error && (error.cause as NodeJS.ErrnoException | undefined)?.code === "ENOENT";

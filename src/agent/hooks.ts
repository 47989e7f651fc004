/**
 * Where CRIU's action script, or who stands between runc and CRIU, waits for its verdict (native/guest/action.c). By the time it
 * calls it has frozen the container, but for the stage `begin`. A verdict is written to a file before it is told, so that a
 * second call for the same stage, or one after a restart of this agent, gets the same answer.
 */
import { rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { basename, dirname } from "node:path";
import { MwarpError } from "../errors.js";
import type { ToolTimes } from "../protocol/agent.js";
import { readIfThere, writeAtomic } from "./files.js";
import { log } from "./log.js";
import { ACTION_SOCKET, type HookAction, hookActions, MIGRATIONS_DIR, migrationPaths } from "./paths.js";

/** For the reason why a hook will never come. It wakes who waits itself, and each look takes its time from CRIU. */
const LOOK_EVERY_MS = 50;

/** A hook that waits. */
export interface HeldHook {
  readonly migration: string;
  readonly action: HookAction;
  /** Init of the container, pid in the guest. */
  readonly initPid: number;
  readonly criuPid: number;
  /** errno of the script's attempt to freeze the cgroup; 0 when it is frozen. */
  readonly freezeErrno: number;
  /** What CRIU and runc have taken since CRIU was told to begin; null when nobody stands between the two. */
  readonly spent: ToolTimes | null;
}

/** 0: CRIU goes on (kills the dumped source, lets the restored tasks go). 1: it lets go, or fails. */
export type Verdict = 0 | 1;

const key = (migration: string, action: HookAction): string => `${migration} ${action}`;

export class Hooks {
  readonly #held = new Map<string, { hook: HeldHook; socket: Socket }>();
  #wake: (() => void)[] = [];

  async listen(): Promise<void> {
    await rm(ACTION_SOCKET, { force: true });
    const server = createServer((socket) => this.#accept(socket));
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(ACTION_SOCKET, resolve);
    });
  }

  held(migration: string, action: HookAction): HeldHook | null {
    return this.#held.get(key(migration, action))?.hook ?? null;
  }

  /** Waits for the hook, or until `ended` answers with the reason why it will never come. */
  async wait(
    migration: string,
    action: HookAction,
    options: { signal: AbortSignal; timeoutMs: number; ended: () => Promise<Error | null> },
  ): Promise<HeldHook> {
    const deadline = performance.now() + options.timeoutMs;
    for (;;) {
      const hook = this.held(migration, action);
      if (hook) return hook;
      options.signal.throwIfAborted();
      const reason = await options.ended();
      if (reason) throw reason;
      if (performance.now() > deadline) {
        throw new MwarpError("MWARP_E_TIMEOUT", `CRIU did not reach ${action} in ${options.timeoutMs} ms`);
      }
      await this.#nextArrival(LOOK_EVERY_MS);
    }
  }

  /** Says the verdict, once and for all: a verdict given before stays. */
  async release(migration: string, action: HookAction, verdict: Verdict): Promise<void> {
    const file = migrationPaths(migration).verdict(action);
    if ((await readIfThere(file)) === null) await writeAtomic(file, String(verdict));
    await this.#answer(key(migration, action), file);
  }

  #nextArrival(limitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, limitMs);
      this.#wake.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #accept(socket: Socket): void {
    let text = "";
    socket.on("error", () => socket.destroy());
    socket.on("data", (data) => {
      text += data.toString();
      const end = text.indexOf("\n");
      if (end >= 0) void this.#arrived(text.slice(0, end), socket).catch(() => socket.destroy());
    });
  }

  async #arrived(line: string, socket: Socket): Promise<void> {
    const [stage, initPid, , criuPid, freezeErrno, criuUs, runcUs, images] = line.split(" ");
    const directory = dirname(images ?? "");
    const action = hookActions.find((known) => known === stage);
    if (action === undefined || dirname(directory) !== MIGRATIONS_DIR) {
      log("warn", `hook: not understood: ${line}`);
      socket.end("1");
      return;
    }
    const migration = basename(directory);
    const name = key(migration, action);
    const hook: HeldHook = {
      migration,
      action,
      initPid: Number(initPid),
      criuPid: Number(criuPid),
      freezeErrno: Number(freezeErrno),
      spent: Number(criuUs) < 0 ? null : { criuMs: Number(criuUs) / 1000, runcMs: Number(runcUs) / 1000 },
    };
    log("info", `hook: ${line}`);
    this.#held.set(name, { hook, socket });
    socket.on("close", () => {
      if (this.#held.get(name)?.socket === socket) this.#held.delete(name);
    });
    for (const wake of this.#wake.splice(0)) wake();
    await this.#answer(name, migrationPaths(migration).verdict(action));
  }

  async #answer(name: string, file: string): Promise<void> {
    const verdict = await readIfThere(file);
    const held = this.#held.get(name);
    if (verdict === null || !held) return;
    this.#held.delete(name);
    held.socket.end(verdict);
  }
}

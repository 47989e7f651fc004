/**
 * The dead-man helper (I1, I2): a process of its own that does nothing but wait for the daemon's end, from before the freeze to
 * the end of the migration. A daemon that dies with both VMs paused leaves them to it; one that dies anywhere is started
 * again by it, if nobody else does: what waits frozen for the journal's word gets it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { MwarpError } from "../errors.js";
import { distFile } from "../paths.js";
import { limited } from "../vm/deferred.js";
import type { VmEndpoint } from "../vm/types.js";
import type { StunnedVms } from "./stun-end.js";

/** A Node process starts in 0.2 s on an idle machine. */
const START_TIMEOUT_MS = 20_000;
/** What the daemon writes when the migration has ended, or is left to be recovered by a living daemon. */
export const DISMISSAL = "dismissed\n";

/** First line on the helper's stdin. */
export interface DeadManOrders {
  readonly journalPath: string;
  readonly vms: readonly VmEndpoint[];
  /** Null for methods without a stun. */
  readonly stun: StunnedVms | null;
  /** Command that starts a daemon with this one's directories. */
  readonly restart: readonly [string, ...string[]];
}

export class DeadMan {
  readonly #child: ChildProcess;
  readonly #ready: Promise<void>;
  #ended: string | null = null;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#ready = new Promise((resolve, reject) => {
      child.on("error", (error) => reject(this.#failed(error.message)));
      child.stdout?.once("data", () => resolve());
      child.on("exit", (code, signal) => reject(this.#failed(signal ?? `status ${code}`)));
    });
    // Asked for by `armed`; a helper that ends after its dismissal is no failure.
    this.#ready.catch(() => undefined);
  }

  /** Starts it; returns at once. In a session of its own, so that no signal meant for the daemon's group ends it too. */
  static start(orders: DeadManOrders): DeadMan {
    const program = distFile("migration", "dead-man-main.js");
    const child = spawn(process.execPath, [program], {
      detached: true,
      cwd: "/",
      stdio: ["pipe", "pipe", "inherit"],
    });
    // First of all: a process that cannot be started (no descriptors left) says so by an event, and has no pipes.
    const deadMan = new DeadMan(child);
    child.stdin?.on("error", () => undefined);
    child.stdin?.write(`${JSON.stringify(orders)}\n`);
    child.unref();
    return deadMan;
  }

  /** Resolves when it waits for the daemon's end; no freeze and no stun without. @throws MWARP_E_INTERNAL when it is not there */
  async armed(): Promise<void> {
    await limited(this.#ready, {
      timeoutMs: START_TIMEOUT_MS,
      signal: undefined,
      onTimeout: () => new MwarpError("MWARP_E_INTERNAL", "the dead-man helper does not start"),
    });
    if (this.#ended !== null) throw this.#failed(this.#ended);
  }

  dismiss(): void {
    this.#child.stdin?.end(DISMISSAL);
    this.#child.stdout?.destroy();
  }

  #failed(why: string): MwarpError {
    this.#ended = why;
    return new MwarpError("MWARP_E_INTERNAL", `the dead-man helper has ended: ${why}`, {
      hint: "Without it a daemon that dies would leave the VMs paused; nothing was changed. Try again.",
    });
  }
}

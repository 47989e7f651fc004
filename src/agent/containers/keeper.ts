/**
 * Looks after the containers of this VM: starts those again that have ended, if their policies say so, and checks their health. Shims
 * write down who has ended; a look now and then finds it, after a restart of the agent too.
 *
 * INVARIANT: whoever starts, stops, removes or begins to move a container has its turn. Nothing is started again and nothing checked
 * meanwhile.
 */
import { isMwarpError } from "../../errors.js";
import type { Helper } from "../helper.js";
import { log } from "../log.js";
import { Turns } from "../turns.js";
import { HealthChecks } from "./health.js";
import { attendEnd, endDueIn } from "./restart.js";
import { containerNames } from "./store.js";

const LOOK_MS = 500;

export class Keeper {
  readonly #helper: Helper;
  readonly #tell: (name: string, exitCode: number) => void;
  readonly #turns = new Turns();
  readonly #checks = new HealthChecks();
  /** Containers that a look is at work on. */
  readonly #attended = new Set<string>();
  /** When something becomes due before the next look. */
  readonly #timers = new Map<string, NodeJS.Timeout>();

  /** @param tell of containers that have ended, each end once */
  constructor(helper: Helper, tell: (name: string, exitCode: number) => void) {
    this.#helper = helper;
    this.#tell = tell;
  }

  start(): void {
    setInterval(() => {
      this.#look().catch((error: unknown) => log("warn", `looking after containers: ${String(error)}`));
    }, LOOK_MS);
  }

  /** Does `work` with the container's turn. */
  exclusive<T>(name: string, work: () => Promise<T>): Promise<T> {
    return this.#turn(name, async () => {
      const { release } = await this.#checks.holdOff(name);
      try {
        return await work();
      } finally {
        release();
      }
    });
  }

  #turn<T>(name: string, work: () => Promise<T>): Promise<T> {
    return this.#turns.run(name, new AbortController().signal, work);
  }

  async #look(): Promise<void> {
    for (const name of await containerNames()) this.#attend(name);
  }

  #attend(name: string): void {
    if (this.#attended.has(name)) return;
    this.#attended.add(name);
    this.#attendTo(name)
      .catch((error: unknown) => {
        // It was removed while it was looked at.
        if (!isMwarpError(error, "MWARP_E_CONTAINER_UNKNOWN"))
          log("warn", `looking after ${name}: ${String(error)}`);
      })
      .finally(() => this.#attended.delete(name));
  }

  async #attendTo(name: string): Promise<void> {
    let wait = await endDueIn(name);
    if (wait === 0) {
      await this.exclusive(name, () => attendEnd(name, this.#helper, (code) => this.#tell(name, code)));
      wait = await endDueIn(name);
    }
    wait ??= await this.#checks.attend(name);
    if (wait !== null && wait < LOOK_MS) this.#again(name, wait);
  }

  #again(name: string, waitMs: number): void {
    clearTimeout(this.#timers.get(name));
    const timer = setTimeout(() => {
      this.#timers.delete(name);
      this.#attend(name);
    }, waitMs);
    this.#timers.set(name, timer);
  }
}

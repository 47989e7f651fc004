/**
 * Health checks of all containers of this VM, one of each at a time. None runs while its container is being started, stopped, removed
 * or moved: who does that holds them off, and one that is under way ends first. Its result counts only if it ended by itself.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { ContainerSpec } from "../../protocol/container.js";
import type { HealthCheck, HealthResult } from "../../protocol/health.js";
import { exists, writeAtomic } from "../files.js";
import { log } from "../log.js";
import { containerPaths } from "../paths.js";
import { isFrozen } from "./cgroup.js";
import { endChecks, runCheck } from "./health-check.js";
import { dueAt, freshHealth, type HealthFile, HealthFileSchema, judged, keptOutput } from "./health-state.js";
import { loadLife, monotonicMs, readState } from "./life.js";
import { movedBy } from "./moving.js";
import { initPid, loadSpec } from "./store.js";

/** A check that is under way may end by itself for so long when its container is wanted for something else. */
const LAST_MOMENT_MS = 300;

interface UnderWay {
  readonly stop: AbortController;
  readonly ended: Promise<void>;
}

/** Null for a container whose checks have found nothing yet. */
export const loadHealth = (name: string): Promise<HealthFile | null> =>
  readState(containerPaths(name).health, HealthFileSchema);

const saveHealth = (name: string, health: HealthFile): Promise<void> =>
  writeAtomic(containerPaths(name).health, JSON.stringify(health));

/** The container has just been started. */
export async function healthBegins(spec: ContainerSpec): Promise<void> {
  if (spec.health !== null)
    await saveHealth(spec.name, freshHealth(monotonicMs(), await loadHealth(spec.name)));
}

export class HealthChecks {
  readonly #underWay = new Map<string, UnderWay>();
  /** Containers that somebody holds them off from, and how many do. */
  readonly #heldOff = new Map<string, number>();

  /** Starts a check if one is due. Answers in how many ms it would be worth to ask again; null: not before something happens. */
  async attend(name: string): Promise<number | null> {
    if (this.#underWay.has(name) || this.#heldOff.has(name)) return null;
    // Most containers have none, and are looked at twice a second.
    if (!(await exists(containerPaths(name).health))) return null;
    const spec = await loadSpec(name);
    const { health: check } = spec;
    const init = await initPid(name);
    if (check === null || init === null || (await movedBy(name)) !== null) return null;
    const known = await loadHealth(name);
    // Damaged: it begins anew.
    if (known === null) await healthBegins(spec);
    const wait = known === null ? check.intervalMs : dueAt(known, check) - monotonicMs();
    if (wait > 0) return wait;
    // The looks above took time, in which somebody may have come who wants the container for himself.
    if (this.#underWay.has(name) || this.#heldOff.has(name)) return null;
    this.#begin(name, init, check);
    return null;
  }

  /** No check from here on until `release` is called; none is under way when this answers. */
  async holdOff(name: string): Promise<{ release(): void }> {
    this.#heldOff.set(name, (this.#heldOff.get(name) ?? 0) + 1);
    const release = (): void => {
      const left = (this.#heldOff.get(name) ?? 1) - 1;
      if (left > 0) this.#heldOff.set(name, left);
      else this.#heldOff.delete(name);
    };
    try {
      await this.#end(name);
    } catch (error) {
      release();
      throw error;
    }
    return { release };
  }

  async #end(name: string): Promise<void> {
    const mine = this.#underWay.get(name);
    if (mine !== undefined) {
      const moment = new AbortController();
      await Promise.race([
        mine.ended,
        sleep(LAST_MOMENT_MS, undefined, { signal: moment.signal }).catch(() => undefined),
      ]);
      moment.abort();
      mine.stop.abort();
      await mine.ended;
    }
    // What an agent before this one has started.
    await endChecks(name);
  }

  #begin(name: string, init: number, check: HealthCheck): void {
    const stop = new AbortController();
    const ended = this.#check(name, init, check, stop.signal)
      .catch((error: unknown) => log("warn", `health check of ${name}: ${String(error)}`))
      .finally(() => this.#underWay.delete(name));
    this.#underWay.set(name, { stop, ended });
  }

  async #check(name: string, init: number, check: HealthCheck, stop: AbortSignal): Promise<void> {
    const startedAt = new Date().toISOString();
    const from = monotonicMs();
    const { exitCode, output } = await runCheck(name, init, check, stop);
    // It says nothing of the container when it was not left to its end, or when the container's end was its own.
    if (stop.aborted || (await initPid(name)) !== init || (await isFrozen(containerPaths(name).cgroup)))
      return;
    const now = monotonicMs();
    const tookMs = Math.round(now - from);
    const told = exitCode === null ? `ended after ${check.timeoutMs} ms, the time limit. ${output}` : output;
    const result: HealthResult = { startedAt, tookMs, exitCode, output: keptOutput(told) };
    const health = (await loadHealth(name)) ?? freshHealth(now, null);
    const next = judged(health, check, result, { now, startedAt: (await loadLife(name)).startedAt });
    if (next.status !== health.status) log("info", `${name} is ${next.status}`);
    await saveHealth(name, next);
  }
}

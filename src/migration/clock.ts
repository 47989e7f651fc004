/** Where the time of one migration goes: phases, downtime and stun, on the host's monotonic clock. */
import type { ToolTimes } from "../protocol/agent.js";
import {
  type DowntimePart,
  downtimeParts,
  NO_STUN,
  type Phase,
  phases,
  type StunPart,
  type StunParts,
  stunParts,
} from "../protocol/migration.js";
import { DowntimeMeter, type Interval } from "./downtime.js";

type Now = () => number;

/** What one stun takes its time for. It runs from its making on. */
export class StunClock {
  readonly begunAt: number;
  readonly #now: Now;
  readonly #parts = { ...NO_STUN };
  #since: number;

  /** @param now milliseconds, monotonic; injected by tests */
  constructor(now: Now = () => performance.now()) {
    this.#now = now;
    this.begunAt = now();
    this.#since = this.begunAt;
  }

  /** All since the last call was for `part`. @param until when that was over, where it is known better than by asking now */
  spent(part: StunPart, until = this.#now()): void {
    this.#parts[part] += until - this.#since;
    this.#since = until;
  }

  get parts(): StunParts {
    return this.#parts;
  }
}

export class MigrationClock {
  readonly #now: Now;
  readonly #start: number;
  readonly #phases = new Map<Phase, number>();
  #current: { phase: Phase; since: number } | null = null;
  #freezeAskedAt: number | null = null;
  #runsAgainAt: number | null = null;
  readonly #stun = { times: 0, source: 0, destination: 0 };
  readonly #stunParts = { ...NO_STUN };
  readonly #downtime: DowntimeMeter;

  /** @param now milliseconds, monotonic; injected by tests */
  constructor(now: Now = () => performance.now()) {
    this.#now = now;
    this.#start = now();
    this.#downtime = new DowntimeMeter(now);
  }

  /** Everything from here on belongs to `phase`, until the next call. A phase may be entered again. */
  enter(phase: Phase): void {
    this.#closePhase();
    this.#current = { phase, since: this.#now() };
  }

  /** Call just before the freeze is asked for: the container may run until then, never longer than measured. */
  freezeAsked(): void {
    this.#freezeAskedAt ??= this.#now();
    this.#downtime.begin();
  }

  /** Accounts for `work` among the parts of the downtime, if the container stands still by then. */
  during<T>(kind: Interval, work: () => Promise<T>): Promise<T> {
    return this.#downtime.during(kind, work);
  }

  /** What runc and CRIU took of a call to an agent. */
  spentInTools(times: ToolTimes | null): void {
    if (times !== null) this.#downtime.tools(times);
  }

  /** Call just after the thaw was confirmed, on either side: downtime ends. */
  runsAgain(): void {
    if (this.#freezeAskedAt === null) return;
    this.#runsAgainAt ??= this.#now();
    this.#downtime.end(this.#runsAgainAt - this.#freezeAskedAt);
  }

  /** Adds one stun: how long each VM stood still, ms, and what for. A migration that had to fault in pages has several. */
  stunned(sourceMs: number, destinationMs: number, parts: StunParts): void {
    this.#downtime.stunned(Math.max(sourceMs, destinationMs));
    this.#stun.times++;
    this.#stun.source += sourceMs;
    this.#stun.destination += destinationMs;
    for (const part of stunParts) this.#stunParts[part] += parts[part];
  }

  elapsed(): number {
    return this.#now() - this.#start;
  }

  /** Milliseconds; downtime is 0 when the container was never frozen. */
  report(): {
    total: number;
    downtime: number;
    downtime_parts: Record<DowntimePart, number>;
    phases: Record<Phase, number>;
    stun: { times: number; source: number; destination: number; parts: Record<StunPart, number> };
  } {
    this.#closePhase();
    const times = each(phases, (phase) => this.#phases.get(phase) ?? 0);
    const downtime =
      this.#freezeAskedAt === null ? 0 : (this.#runsAgainAt ?? this.#now()) - this.#freezeAskedAt;
    const stun = {
      times: this.#stun.times,
      source: round(this.#stun.source),
      destination: round(this.#stun.destination),
      parts: each(stunParts, (part) => this.#stunParts[part]),
    };
    const waited = this.#downtime.parts(downtime);
    return {
      total: round(this.elapsed()),
      downtime: round(downtime),
      downtime_parts: each(downtimeParts, (part) => waited[part]),
      phases: times,
      stun,
    };
  }

  #closePhase(): void {
    if (this.#current === null) return;
    const spent = this.#now() - this.#current.since;
    this.#phases.set(this.#current.phase, (this.#phases.get(this.#current.phase) ?? 0) + spent);
    this.#current = null;
  }
}

/** Microsecond precision is all the clock can tell; more digits would only look exact. */
const round = (ms: number): number => Math.round(ms * 1000) / 1000;

const each = <K extends string>(keys: readonly K[], value: (key: K) => number): Record<K, number> =>
  Object.fromEntries(keys.map((key) => [key, round(value(key))])) as Record<K, number>;

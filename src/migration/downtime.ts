/** Who a container waits for while it stands still. The parts add up to the downtime: what nobody claims is the host's own. */
import type { ToolTimes } from "../protocol/agent.js";
import { type DowntimePart, type DowntimeParts, NO_DOWNTIME } from "../protocol/migration.js";

/** What takes time of which it is known when it begins and ends. */
export type Interval = Extract<DowntimePart, "agents" | "populate">;

export class DowntimeMeter {
  readonly #now: () => number;
  readonly #spent: Record<Interval, number> = { agents: 0, populate: 0 };
  /** Of each kind, how many are under way and since when there is any. */
  readonly #open: Record<Interval, { count: number; since: number }> = {
    agents: { count: 0, since: 0 },
    populate: { count: 0, since: 0 },
  };
  #stun = 0;
  #tools: ToolTimes = { criuMs: 0, runcMs: 0 };
  #begun = false;
  #ended: DowntimeParts | null = null;

  /** @param now milliseconds, monotonic */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** The container is about to stand still: what was before does not count. */
  begin(): void {
    this.#begun = true;
  }

  async during<T>(kind: Interval, work: () => Promise<T>): Promise<T> {
    const open = this.#open[kind];
    if (open.count++ === 0) open.since = this.#now();
    try {
      return await work();
    } finally {
      if (--open.count === 0 && this.#begun) this.#spent[kind] += this.#now() - open.since;
    }
  }

  /** Adds what runc and CRIU took of a call to an agent. */
  tools({ criuMs, runcMs }: ToolTimes): void {
    this.#tools = { criuMs: this.#tools.criuMs + criuMs, runcMs: this.#tools.runcMs + runcMs };
  }

  stunned(ms: number): void {
    this.#stun += ms;
  }

  /** The container runs again after `downtime` ms: what comes does not count any more. */
  end(downtime: number): void {
    this.#ended ??= this.#parts(downtime);
  }

  /** ms; all zero when nothing ever stood still. */
  parts(downtime: number): DowntimeParts {
    if (!this.#begun) return NO_DOWNTIME;
    return this.#ended ?? this.#parts(downtime);
  }

  #parts(downtime: number): DowntimeParts {
    const { agents, populate } = this.#spent;
    const stun = this.#stun;
    const { criuMs, runcMs } = this.#tools;
    return {
      criu: criuMs,
      runc: runcMs,
      agents: agents - criuMs - runcMs,
      populate,
      stun,
      host: downtime - agents - populate - stun,
    };
  }
}

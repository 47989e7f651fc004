/** Who a container waits for while it stands still. */
import { describe, expect, it } from "vitest";
import { MigrationClock } from "../../../src/migration/clock.js";
import type { AgentCaller } from "../../../src/migration/ports.js";
import { timedAgent } from "../../../src/migration/timed-agent.js";
import { downtimeParts, NO_DOWNTIME, NO_STUN } from "../../../src/protocol/migration.js";

function clockAt() {
  let now = 0;
  const clock = new MigrationClock(() => now);
  const pass = (ms: number): void => {
    now += ms;
  };
  const sum = (): number => {
    const { downtime_parts: parts } = clock.report();
    return downtimeParts.reduce((all, part) => all + parts[part], 0);
  };
  return { clock, pass, sum };
}

describe("the parts of the downtime", () => {
  it("add up to it: what nobody claims is the host's", async () => {
    const { clock, pass, sum } = clockAt();
    await clock.during("agents", async () => pass(1000));
    clock.freezeAsked();
    await clock.during("agents", async () => pass(100));
    clock.spentInTools({ criuMs: 60, runcMs: 15 });
    pass(7);
    await clock.during("populate", async () => pass(30));
    pass(20);
    clock.stunned(18, 20, NO_STUN);
    await clock.during("agents", async () => pass(5));
    clock.runsAgain();
    expect(clock.report().downtime_parts).toEqual({
      criu: 60,
      runc: 15,
      agents: 30,
      populate: 30,
      stun: 20,
      host: 7,
    });
    expect(sum()).toBe(clock.report().downtime);
  });

  it("count calls that are under way at the same time once", async () => {
    const { clock, pass, sum } = clockAt();
    clock.freezeAsked();
    let end = (): void => undefined;
    const long = clock.during("agents", () => new Promise<void>((resolve) => (end = resolve)));
    pass(10);
    await clock.during("agents", async () => pass(10));
    pass(10);
    end();
    await long;
    clock.runsAgain();
    expect(clock.report().downtime_parts).toEqual({ ...NO_DOWNTIME, agents: 30 });
    expect(sum()).toBe(30);
  });

  it("have nothing of what comes after it, nor of a call that failed on its way", async () => {
    const { clock, pass, sum } = clockAt();
    clock.freezeAsked();
    const fails = clock.during("agents", async () => {
      pass(10);
      throw new Error("no");
    });
    await expect(fails).rejects.toThrow("no");
    clock.runsAgain();
    await clock.during("agents", async () => pass(1000));
    clock.spentInTools({ criuMs: 500, runcMs: 0 });
    expect(clock.report().downtime_parts).toEqual({ ...NO_DOWNTIME, agents: 10 });
    expect(sum()).toBe(clock.report().downtime);
  });

  it("are all nothing where nothing stood still", async () => {
    const { clock, pass } = clockAt();
    await clock.during("agents", async () => pass(10));
    expect(clock.report().downtime_parts).toEqual(NO_DOWNTIME);
  });

  it("tell populating from all else that is asked of an agent", async () => {
    const { clock, pass } = clockAt();
    const agent = {
      call: async () => {
        pass(10);
        return {};
      },
      channelBytes: { sent: 3, received: 4 },
    } as unknown as AgentCaller;
    const timed = timedAgent(agent, clock);
    clock.freezeAsked();
    await timed.call("destination.populate", { migration: "m-12345678", runs: [] });
    await timed.call("destination.abort", { migration: "m-12345678" });
    clock.runsAgain();
    expect(clock.report().downtime_parts).toEqual({ ...NO_DOWNTIME, agents: 10, populate: 10 });
    expect(timed.channelBytes).toEqual({ sent: 3, received: 4 });
  });
});

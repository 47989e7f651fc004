import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { MwarpError } from "../../../src/errors.js";
import { MigrationClock, StunClock } from "../../../src/migration/clock.js";
import { Journal, readJournal } from "../../../src/migration/journal.js";
import { StepRunner } from "../../../src/migration/runner.js";
import { forwardSteps, methodSteps, type StepName, steps } from "../../../src/migration/states.js";
import { NO_STUN } from "../../../src/protocol/migration.js";
import { journalHead } from "../../support/requests.js";

let directory: string;
let file: string;
const hooks = { onPhase: () => undefined, onCommitted: () => undefined, onNote: () => undefined };

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "mwarp-runner-"));
  file = path.join(directory, "m", "journal");
});
afterEach(() => rmSync(directory, { recursive: true }));

const makeRunner = (method: "warp" | "cold", signal = new AbortController().signal) =>
  new StepRunner(Journal.create(file, { ...journalHead, method }), new MigrationClock(), signal, hooks);

async function runSteps(runner: StepRunner, names: readonly StepName[], failAt?: StepName): Promise<void> {
  for (const name of names) {
    await runner.step(name, async (commit) => {
      if (name === failAt) throw new MwarpError("MWARP_E_DUMP", `${name} failed`);
      if (steps[name].to === "committed") commit();
    });
  }
}

for (const method of ["warp", "cold"] as const) {
  describe(`a ${method} migration`, () => {
    for (const failing of methodSteps[method]) {
      it(`that fails in ${failing} clears the destination, then thaws the source, and ends aborted`, async () => {
        const runner = makeRunner(method);
        await expect(runSteps(runner, methodSteps[method], failing)).rejects.toThrow(`${failing} failed`);
        const order: string[] = [];
        const errors = await runner.rollBack("test", {
          abortSource: async () => void order.push("source"),
          abortDestination: async () => void order.push("destination"),
        });
        expect(errors).toEqual([]);
        expect(order).toEqual(["destination", "source"]);
        expect(readJournal(file)?.state).toBe("aborted");
      });
    }

    it("has each step in its journal while it is done, and its state afterwards, also for another process", async () => {
      const runner = makeRunner(method);
      const told = () => {
        const contents = readJournal(file);
        return { begun: contents?.begun.at(-1), state: contents?.state };
      };
      for (const name of methodSteps[method]) {
        const { from, to } = steps[name];
        await runner.step(name, async (commit) => {
          expect(told()).toEqual({ begun: name, state: from });
          if (name === "warp") {
            runner.beginExchange(Buffer.from("frames"));
            expect(readJournal(file)?.exchanging).toBe(true);
          }
          if (to !== "committed") return;
          expect(runner.committed).toBe(false);
          commit();
          expect(told()).toEqual({ begun: name, state: "committed" });
        });
        expect(told()).toEqual({ begun: name, state: to });
      }
      for (const name of ["resume", "retire"] as const) {
        const { from, to } = forwardSteps[name];
        const error = await runner.forward(name, async () =>
          expect(told()).toEqual({ begun: name, state: from }),
        );
        expect(error).toBeNull();
        expect(told()).toEqual({ begun: name, state: to });
      }
    });

    it("says that it is rolled back before anything is undone", async () => {
      const runner = makeRunner(method);
      await runSteps(runner, ["prepare", "freeze"]);
      const told: (string | undefined)[] = [];
      const undo = async () => void told.push(readJournal(file)?.state);
      expect(await runner.rollBack("test", { abortSource: undo, abortDestination: undo })).toEqual([]);
      expect(told).toEqual(["aborting", "aborting"]);
    });

    it("that was committed cannot be rolled back", async () => {
      const runner = makeRunner(method);
      await runSteps(runner, methodSteps[method]);
      expect(runner.committed).toBe(true);
      const never = async () => {
        throw new Error("must not run");
      };
      await expect(runner.rollBack("test", { abortSource: never, abortDestination: never })).rejects.toThrow(
        /never rolled back/,
      );
      expect(readJournal(file)?.state).toBe("committed");
    });
  });
}

describe("the step runner", () => {
  it("does not start a step once the migration is cancelled", async () => {
    const abort = new AbortController();
    const runner = makeRunner("warp", abort.signal);
    await runSteps(runner, ["prepare"]);
    abort.abort(new MwarpError("MWARP_E_CANCELLED", "cancelled"));
    let ran = false;
    const freeze = runner.step("freeze", async () => {
      ran = true;
    });
    await expect(freeze).rejects.toThrow("cancelled");
    expect(ran).toBe(false);
  });

  it("refuses a committing step that ends without the journal's word", async () => {
    const runner = makeRunner("cold");
    await runSteps(runner, methodSteps.cold.slice(0, -1));
    await expect(runner.step("commit", async () => undefined)).rejects.toThrow(/ended without a commit/);
    expect(runner.committed).toBe(false);
  });

  it("thaws the source even when the destination cannot be cleared, and stays open for recovery", async () => {
    const runner = makeRunner("warp");
    await runSteps(runner, ["prepare", "freeze"]);
    let thawed = false;
    const errors = await runner.rollBack("test", {
      abortSource: async () => {
        thawed = true;
      },
      abortDestination: async () => {
        throw new MwarpError("MWARP_E_AGENT_UNREACHABLE", "gone");
      },
    });
    expect(thawed).toBe(true);
    expect(errors.map((error) => error.code)).toEqual(["MWARP_E_AGENT_UNREACHABLE"]);
    expect(readJournal(file)?.state).toBe("aborting");
  }, 20_000);

  it("tries a forward step again until it is done", async () => {
    const runner = makeRunner("cold");
    await runSteps(runner, methodSteps.cold);
    let tries = 0;
    const error = await runner.forward("resume", async () => {
      if (++tries < 3) throw new Error("not yet");
    });
    expect(error).toBeNull();
    expect(tries).toBe(3);
    expect(readJournal(file)?.state).toBe("resumed");
  });
});

describe("the clock", () => {
  it("adds up phases that are entered twice and measures downtime from the freeze to the thaw", () => {
    let now = 0;
    const clock = new MigrationClock(() => now);
    clock.enter("dump");
    now = 5;
    clock.freezeAsked();
    now = 10;
    clock.enter("transfer");
    now = 30;
    clock.enter("dump");
    now = 37;
    clock.runsAgain();
    now = 50;
    clock.runsAgain();
    const report = clock.report();
    expect(report.phases).toMatchObject({ dump: 30, transfer: 20, warp: 0 });
    expect(report.downtime).toBe(32);
    expect(report.total).toBe(50);
  });

  it("adds up what the stuns of a migration were for", () => {
    let now = 100;
    const clock = new MigrationClock(() => now);
    for (const walk of [30, 2]) {
      const stun = new StunClock(() => now);
      now += 4;
      stun.spent("pause");
      now += walk;
      stun.spent("walk");
      now += 1;
      stun.spent("continue");
      clock.stunned(walk + 4, walk + 5, stun.parts);
    }
    expect(clock.report().stun).toEqual({
      times: 2,
      source: 40,
      destination: 42,
      parts: { ...NO_STUN, pause: 8, walk: 32, continue: 2 },
    });
  });

  it("reports no downtime for a migration that never froze anything", () => {
    let now = 0;
    const clock = new MigrationClock(() => now);
    clock.enter("preflight");
    now = 9;
    clock.runsAgain();
    expect(clock.report().downtime).toBe(0);
  });
});

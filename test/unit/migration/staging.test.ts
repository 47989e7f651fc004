/** Whether memory is staged, and what is said when it cannot be. */
import { describe, expect, test } from "vitest";
import { MwarpError } from "../../../src/errors.js";
import { awaitStaged, chooseStage, predict } from "../../../src/migration/staging.js";
import type { GuestInfo } from "../../../src/protocol/guest-info.js";
import type { Strategy, StrategyChoice } from "../../../src/protocol/migration.js";
import type { StagedMapping } from "../../../src/protocol/stage.js";
import { MIB } from "../../../src/units.js";

/** 1 ms for 2 MiB as a huge page, 5 us for a small one; 100 mappings are moved in 5 ms. */
const faultCosts = { hugeUs: 1000, smallUs: 5, takeHugeUs: 20, takeSmallUs: 2, moveUs: 50 };

const memory = (mib: number, changes: Partial<StagedMapping> = {}): StagedMapping => ({
  nsPid: 1,
  page: 100,
  pages: 2 ** 20,
  commit: "reserve",
  hugePages: "default",
  hugeBytes: 0,
  fills: mib === 0 ? [] : [{ page: 512, pages: mib * 256 }],
  ...changes,
});

interface Settings {
  readonly strategy?: StrategyChoice;
  readonly mappings?: readonly StagedMapping[];
  readonly costs?: GuestInfo["faultCosts"];
  readonly memoryLimitBytes?: number | null;
  readonly memAvailableBytes?: number;
  readonly staged?: { pages: number; reason: string | null };
}

function migration({
  strategy = "auto",
  mappings = [memory(256)],
  costs = faultCosts,
  memoryLimitBytes = null,
  memAvailableBytes = 2048 * MIB,
  staged = { pages: 65_536, reason: null },
}: Settings = {}) {
  const notes: string[] = [];
  const asked: string[] = [];
  const agent = (answers: Record<string, unknown>) => ({
    call: async (method: string) => {
      asked.push(method);
      return answers[method];
    },
  });
  const tally: { strategy: Strategy | null; staged: number } = { strategy: null, staged: 0 };
  const context = {
    id: "m-1234567",
    signal: new AbortController().signal,
    request: { strategy },
    tally,
    onNote: (message: string) => void notes.push(message),
    staged: [] as readonly StagedMapping[],
    checked: {
      sourceAgent: agent({ "source.stageable": { mappings } }),
      destinationAgent: agent({ "destination.staged": staged }),
      usage: { memoryLimitBytes, spec: { name: "web" } },
      destinationInfo: { faultCosts: costs, transparentHugepages: "always", memAvailableBytes },
    },
  };
  // Of a whole context only this much is looked at.
  return { context: context as unknown as Parameters<typeof awaitStaged>[0], notes, asked, tally };
}

describe("a container's memory", () => {
  test("is staged where that is the shorter standstill, and not where it is the longer", async () => {
    const large = migration();
    expect(await chooseStage(large.context)).toEqual([memory(256)]);
    const small = migration({ mappings: [memory(4)] });
    expect(await chooseStage(small.context)).toEqual([]);
    expect(small.notes).toEqual([]);
  });

  test("is staged however little it is when that is asked for, and not looked at for eager", async () => {
    const told = migration({ strategy: "staged", mappings: [memory(4)] });
    expect(await chooseStage(told.context)).toEqual([memory(4)]);
    const eager = migration({ strategy: "eager" });
    expect(await chooseStage(eager.context)).toEqual([]);
    expect(eager.asked).toEqual([]);
  });

  test.each<[string, Settings, RegExp]>([
    ["there is none", { mappings: [memory(0)] }, /no private memory/],
    ["the kernel cannot", { costs: null }, /cannot fault memory in ahead/],
    [
      "the destination has not that much memory",
      { memAvailableBytes: 300 * MIB },
      /no room in the destination's memory/,
    ],
    ["the limit is reached", { memoryLimitBytes: 270 * MIB }, /memory limit leaves CRIU no room/],
  ])("is populated as ever when %s, and who asked for it is told why", async (_, settings, why) => {
    const told = migration({ ...settings, strategy: "staged" });
    expect(await chooseStage(told.context)).toEqual([]);
    expect(told.notes.join()).toMatch(why);
    const auto = migration(settings);
    expect(await chooseStage(auto.context)).toEqual([]);
    expect(auto.notes).toEqual([]);
  });

  test("is populated as ever when the source cannot say what it has, but not when the migration is cancelled", async () => {
    const { context, notes } = migration();
    const fails = { call: () => Promise.reject(new MwarpError("MWARP_E_TIMEOUT", "no answer in time")) };
    const failing = {
      ...context,
      checked: { ...context.checked, sourceAgent: fails },
    } as unknown as typeof context;
    expect(await chooseStage(failing)).toEqual([]);
    expect(notes.join()).toContain("no answer in time");
    const cancelled = { ...failing, signal: AbortSignal.abort(new Error("cancelled")) };
    await expect(chooseStage(cancelled)).rejects.toThrow("cancelled");
  });

  test("counts as staged only once the destination has it", async () => {
    const done = migration();
    await awaitStaged(done.context, [memory(256)]);
    expect(done.tally).toEqual({ strategy: "staged", staged: 65_536 });
    expect(done.context.staged).toEqual([memory(256)]);
    const failed = migration({ staged: { pages: 0, reason: "memory could not be faulted in (errno 12)" } });
    await awaitStaged(failed.context, [memory(256)]);
    expect(failed.tally).toEqual({ strategy: null, staged: 0 });
    expect(failed.context.staged).toEqual([]);
    expect(failed.notes.join()).toContain("errno 12");
  });
});

describe("the prediction", () => {
  const guest = { faultCosts, transparentHugepages: "always" };

  test("is of huge pages where the kernel gives them, or the program asks for them", () => {
    expect(predict([memory(1024)], guest)).toEqual({ eagerMs: 512, stagedMs: 5 + 512 * 0.02 });
    const small = { eagerMs: 262_144 * 0.005, stagedMs: 5 + 262_144 * 0.002 };
    for (const [hugePages, mode, huge] of [
      ["default", "madvise", false],
      ["asked", "madvise", true],
      ["asked", "never", false],
      ["refused", "always", false],
      ["off", "always", false],
    ] as const) {
      const { eagerMs, stagedMs } = predict([memory(1024, { hugePages })], {
        faultCosts,
        transparentHugepages: mode,
      });
      expect(eagerMs).toBeCloseTo(huge ? 512 : small.eagerMs);
      expect(stagedMs).toBeCloseTo(huge ? 15.24 : small.stagedMs);
    }
  });

  test("has the price of mapping everything twice for each task", () => {
    const tasks = [1, 2, 3].map((nsPid) => memory(0, { nsPid }));
    expect(predict(tasks, guest)).toEqual({ eagerMs: 0, stagedMs: 15 });
  });
});

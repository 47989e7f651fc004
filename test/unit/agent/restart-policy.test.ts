/** What becomes of a container that has ended, for any life that it may have led. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Life, LifeSchema, newLife, rebaseLife } from "../../../src/agent/containers/life.js";
import {
  begun,
  ended,
  FIRST_DELAY_MS,
  LONGEST_DELAY_MS,
  RAN_WELL_MS,
  starting,
  stopped,
} from "../../../src/agent/containers/restart-policy.js";
import type { RestartPolicy } from "../../../src/protocol/restart.js";

/** How long each run takes, and how it ends. */
const runs = fc.array(
  fc.record({
    ranMs: fc.oneof(fc.nat(200), fc.integer({ min: 9_990, max: 10_010 }), fc.nat(100_000)),
    exitCode: fc.oneof(fc.constant(0), fc.nat(255)),
  }),
  { maxLength: 40 },
);
const policies: fc.Arbitrary<RestartPolicy> = fc.oneof(
  fc.constantFrom<RestartPolicy>({ name: "no" }, { name: "always" }, { name: "unless-stopped" }),
  fc.record({
    name: fc.constant("on-failure" as const),
    most: fc.option(fc.integer({ min: 1, max: 5 }), { nil: null }),
  }),
);

interface Run {
  readonly ranMs: number;
  readonly exitCode: number;
}

/** Leads a container through runs for as long as it is started again; each life after an end, and what it was waited for. */
function lead(policy: RestartPolicy, all: readonly Run[]): { life: Life; run: Run; waitMs: number | null }[] {
  let now = 5;
  let life = newLife(now);
  const ends: { life: Life; run: Run; waitMs: number | null }[] = [];
  for (const run of all) {
    now += run.ranMs;
    life = ended(life, policy, run.exitCode, now);
    ends.push({ life, run, waitMs: life.dueAt === null ? null : life.dueAt - now });
    if (life.dueAt === null) break;
    now = life.dueAt;
    life = begun(starting(life), now);
  }
  return ends;
}

describe("a restart policy", () => {
  it("starts a container again, or not, as its name says, and counts", () => {
    fc.assert(
      fc.property(policies, runs, (policy, all) => {
        lead(policy, all).forEach(({ life, run, waitMs }, before) => {
          const again = {
            no: false,
            "on-failure":
              run.exitCode !== 0 &&
              (policy.name !== "on-failure" || policy.most === null || before < policy.most),
            always: true,
            "unless-stopped": true,
          }[policy.name];
          expect(waitMs !== null).toBe(again);
          expect(life.count).toBe(before);
          expect(LifeSchema.safeParse(JSON.parse(JSON.stringify(life))).success).toBe(true);
        });
      }),
    );
  });

  it("waits 100 ms, then twice as long each time up to a minute, and begins anew after ten seconds of running", () => {
    fc.assert(
      fc.property(runs, (all) => {
        let expected = 0;
        for (const { run, waitMs } of lead({ name: "always" }, all)) {
          const doubled = Math.min(LONGEST_DELAY_MS, Math.max(FIRST_DELAY_MS, 2 * expected));
          expected = run.ranMs >= RAN_WELL_MS ? FIRST_DELAY_MS : doubled;
          expect(waitMs).toBe(expected);
        }
      }),
    );
    const short = Array.from({ length: 12 }, () => ({ ranMs: 1, exitCode: 1 }));
    expect(lead({ name: "always" }, short).map(({ waitMs }) => waitMs)).toEqual([
      100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000,
    ]);
  });

  it("starts nothing that somebody has stopped, before or after its end", () => {
    fc.assert(
      fc.property(policies, fc.nat(255), fc.nat(20_000), (policy, exitCode, at) => {
        expect(ended(stopped(newLife(0)), policy, exitCode, at).dueAt).toBeNull();
        expect(stopped(ended(newLife(0), policy, exitCode, at)).dueAt).toBeNull();
      }),
    );
  });

  it("does not notice a move: the other VM's clock changes nothing of what is decided", () => {
    fc.assert(
      fc.property(
        policies,
        runs,
        fc.nat(30_000),
        fc.integer({ min: -1e9, max: 1e9 }),
        (policy, all, ran, shift) => {
          const life = lead(policy, all).at(-1)?.life ?? newLife(0);
          const running = begun(life, 1000);
          const here = ended(running, policy, 1, 1000 + ran);
          const there = ended(rebaseLife(running, shift), policy, 1, 1000 + ran + shift);
          expect(there).toEqual(rebaseLife(here, shift));
        },
      ),
    );
  });
});

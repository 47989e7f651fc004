/** What health checks make of a container, for any results that they may have. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  dueAt,
  freshHealth,
  HealthFileSchema,
  judged,
  keptOutput,
  rebaseHealth,
  SETTLE_MS,
} from "../../../src/agent/containers/health-state.js";
import type { HealthCheck, HealthResult } from "../../../src/protocol/health.js";

const checks: fc.Arbitrary<HealthCheck> = fc.record({
  command: fc.constant(["true"]),
  intervalMs: fc.integer({ min: 1, max: 60_000 }),
  timeoutMs: fc.integer({ min: 1, max: 60_000 }),
  retries: fc.integer({ min: 1, max: 5 }),
  startPeriodMs: fc.nat(20_000),
});
const outcomes = fc.array(
  fc.record({
    afterMs: fc.nat(5_000),
    exitCode: fc.oneof(fc.constant(0), fc.constant(null), fc.integer({ min: 1, max: 255 })),
  }),
  { maxLength: 30 },
);
const result = (exitCode: number | null): HealthResult => ({
  startedAt: "2026-01-01T00:00:00.000Z",
  tookMs: 1,
  exitCode,
  output: "",
});

describe("the health of a container", () => {
  it("is what the last results say: failures in a row count from the end of the start period, or the first success, on", () => {
    fc.assert(
      fc.property(checks, outcomes, (check, all) => {
        const startedAt = 77;
        let now = startedAt;
        let health = freshHealth(now, null);
        let wasWell = false;
        let streak = 0;
        const told: (number | null)[] = [];
        for (const { afterMs, exitCode } of all) {
          now += afterMs;
          health = judged(health, check, result(exitCode), { now, startedAt });
          told.push(exitCode);
          const counts: boolean =
            wasWell || streak >= check.retries || now - startedAt >= check.startPeriodMs;
          if (exitCode === 0) {
            wasWell = true;
            streak = 0;
          } else if (counts) streak++;
          expect(health.failingStreak).toBe(streak);
          if (streak === 0 && !wasWell) expect(health.status).toBe("starting");
          else if (streak === 0) expect(health.status).toBe("healthy");
          else if (streak >= check.retries) expect(health.status).toBe("unhealthy");
          else expect(health.status).not.toBe("unhealthy");
          expect(health.results.map((one) => one.exitCode)).toEqual(told.slice(-5));
          expect(HealthFileSchema.safeParse(JSON.parse(JSON.stringify(health))).success).toBe(true);
        }
      }),
    );
  });

  it("is unknown again when the container was started anew, and what was found is kept to be read", () => {
    const check: HealthCheck = { command: ["x"], intervalMs: 1, timeoutMs: 1, retries: 1, startPeriodMs: 0 };
    const ill = judged(freshHealth(0, null), check, result(9), { now: 5, startedAt: 0 });
    expect(ill.status).toBe("unhealthy");
    expect(freshHealth(8, ill)).toEqual({
      status: "starting",
      failingStreak: 0,
      results: ill.results,
      since: 8,
    });
  });

  it("is not changed by a move, and the next check comes when it was due, but not before the container has settled", () => {
    fc.assert(
      fc.property(
        checks,
        fc.nat(100_000),
        fc.nat(200_000),
        fc.integer({ min: -1e9, max: 1e9 }),
        (check, since, ran, there) => {
          const health = { ...freshHealth(since, null), status: "healthy" as const, failingStreak: 1 };
          const frozenAt = since + ran;
          const now = there + 1e10;
          const moved = rebaseHealth(health, check, now - frozenAt, now);
          expect({ ...moved, since: 0 }).toEqual({ ...health, since: 0 });
          const left = Math.max(0, dueAt(health, check) - frozenAt);
          const wait = dueAt(moved, check) - now;
          expect(wait).toBeCloseTo(Math.max(left, Math.min(SETTLE_MS, check.intervalMs)), 3);
        },
      ),
    );
  });
});

describe("the output of a check", () => {
  it("is kept as text, and not too much of it", () => {
    expect(keptOutput("all is well\n")).toBe("all is well");
    expect(keptOutput("\u001b[2Jx\u0000\ty")).toBe("?[2Jx?\ty");
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 5000 }), (text) => {
        const kept = keptOutput(text);
        expect(kept.length).toBeLessThanOrEqual(1024);
        // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
        expect(kept).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f]/);
      }),
    );
  });
});

/** Where a container's health check comes from. */
import { describe, expect, it } from "vitest";
import { healthCheck, imageHealth } from "../../../src/container/health.js";
import { MOST_HEALTH_MS, NO_WISH } from "../../../src/protocol/health.js";

const defaults = { intervalMs: 30_000, timeoutMs: 30_000, retries: 3, startPeriodMs: 0 };
const asked = (changes: Partial<Extract<typeof NO_WISH, { kind: "check" }>>) =>
  ({ ...NO_WISH, ...changes }) as typeof NO_WISH;

describe("the health check of a container", () => {
  it("is that of its image, in Docker's forms and units", () => {
    const said = imageHealth({
      Test: ["CMD-SHELL", "curl -f localhost || exit 1"],
      Interval: 5e9,
      Timeout: 1.5e9,
      Retries: 7,
      StartPeriod: 2e9,
    });
    expect(healthCheck(NO_WISH, said)).toEqual({
      command: ["/bin/sh", "-c", "curl -f localhost || exit 1"],
      intervalMs: 5000,
      timeoutMs: 1500,
      retries: 7,
      startPeriodMs: 2000,
    });
    const plain = imageHealth({ Test: ["CMD", "/check", "-a"], Interval: 0, Retries: 0 });
    expect(healthCheck(NO_WISH, plain)).toEqual({ command: ["/check", "-a"], ...defaults });
    const bash = imageHealth({ Test: ["CMD-SHELL", "true"] }, ["/bin/bash", "-ec"]);
    expect(healthCheck(NO_WISH, bash)?.command).toEqual(["/bin/bash", "-ec", "true"]);
    const long = imageHealth({ Test: ["CMD", "x"], Interval: 1e30, Timeout: 1 });
    expect(healthCheck(NO_WISH, long)).toMatchObject({ intervalMs: MOST_HEALTH_MS, timeoutMs: 1 });
  });

  it("is none where the image says so, or says nothing", () => {
    for (const Test of [["NONE"], [], null, ["CMD"], ["OTHER", "x"]])
      expect(imageHealth({ Test }), JSON.stringify(Test)).toBeNull();
    expect(healthCheck(NO_WISH, null)).toBeNull();
  });

  it("is what was asked for where that says something, and none at all when none is wanted", () => {
    const said = imageHealth({ Test: ["CMD", "/check"], Retries: 7 });
    expect(healthCheck(asked({ intervalMs: 10 }), said)).toEqual({
      ...defaults,
      command: ["/check"],
      intervalMs: 10,
      retries: 7,
    });
    expect(healthCheck(asked({ command: ["/mine"] }), said)?.command).toEqual(["/mine"]);
    expect(healthCheck({ kind: "none" }, said)).toBeNull();
  });

  it("must be named by somebody", () => {
    expect(() => healthCheck(asked({ retries: 2 }), null)).toThrow("nothing says what command");
  });
});

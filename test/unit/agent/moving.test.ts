/** What moves with a container of its restarts and health, and the mark that keeps both away meanwhile. */
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type * as Life from "../../../src/agent/containers/life.js";
import type * as Moving from "../../../src/agent/containers/moving.js";

const name = "web";

describe("a container that moves", () => {
  let root: string;
  let dir: string;
  let moving: typeof Moving;
  let life: typeof Life;
  const file = (base: string): string => path.join(dir, base);
  const json = (base: string): unknown => JSON.parse(readFileSync(file(base), "utf8"));

  beforeEach(async () => {
    root = mkdtempSync(path.join(tmpdir(), "mwarp-moving-"));
    dir = path.join(root, name);
    mkdirSync(dir);
    vi.resetModules();
    vi.doMock("../../../src/agent/paths.js", async (original) => {
      const real = await original<typeof import("../../../src/agent/paths.js")>();
      const containerPaths = (of: string) =>
        Object.fromEntries(
          Object.entries(real.containerPaths(of)).map(([key, value]: [string, string]) => [
            key,
            value.replace(real.CONTAINERS_DIR, root),
          ]),
        );
      return { ...real, containerPaths };
    });
    moving = await import("../../../src/agent/containers/moving.js");
    life = await import("../../../src/agent/containers/life.js");
    writeFileSync(
      file("spec.json"),
      JSON.stringify({
        name,
        id: "a".repeat(32),
        rootfs: "0".repeat(64),
        network: { mac: "02:00:00:00:00:01", ipv4: "10.0.0.2", prefixLength: 24, gateway: null },
        hostname: name,
        oci: {},
        createdAt: "2026-01-01T00:00:00Z",
        health: { command: ["x"], intervalMs: 60_000, timeoutMs: 1, retries: 1, startPeriodMs: 0 },
      }),
    );
  });
  afterEach(() => {
    vi.doUnmock("../../../src/agent/paths.js");
    rmSync(root, { recursive: true, force: true });
  });

  it("is marked from its preparation to its arrival, and nobody takes away another migration's mark", async () => {
    expect(await moving.movedBy(name)).toBeNull();
    await moving.setMoving(name, "m-1");
    await moving.clearMoving(name, "m-0");
    expect(await moving.movedBy(name)).toBe("m-1");
    writeFileSync(file("held"), "m-2");
    expect(await moving.movedBy(name)).toBe("m-2");
    rmSync(file("held"));
    await moving.clearMoving(name, "m-1");
    expect(await moving.movedBy(name)).toBeNull();
  });

  it("arrives as old as it was when it was frozen, by the clock of its new VM", async () => {
    const frozenAt = 1_000_000_000;
    const before = { ...life.newLife(frozenAt - 4000), count: 3, delayMs: 400 };
    await life.saveLife(name, before);
    const health = { status: "unhealthy", failingStreak: 2, results: [], since: frozenAt - 20_000 };
    writeFileSync(file("health.json"), JSON.stringify(health));
    writeFileSync(file("frozen-at"), String(frozenAt));
    expect(await moving.movingFiles(name)).toEqual(["life.json", "health.json", "frozen-at"]);
    const earliest = life.monotonicMs();
    await moving.arrive(name);
    const now = life.monotonicMs();
    const { startedAt, ...rest } = await life.loadLife(name);
    expect(rest).toEqual({ ...before, startedAt: undefined });
    expect(startedAt).toBeGreaterThanOrEqual(earliest - 4001);
    expect(startedAt).toBeLessThanOrEqual(now - 3999);
    const { since } = json("health.json") as { since: number };
    expect(json("health.json")).toEqual({ ...health, since });
    expect(since).toBeGreaterThanOrEqual(earliest - 20_001);
    expect(since).toBeLessThanOrEqual(now - 19_999);
    // Once is enough.
    const once = [json("life.json"), json("health.json")];
    await moving.arrive(name);
    expect([json("life.json"), json("health.json")]).toEqual(once);
    expect(existsSync(file("frozen-at"))).toBe(false);
  });

  it("brings nothing in that is not what it should be", async () => {
    execFileSync("mkfifo", [file("life.json")]);
    symlinkSync(file("spec.json"), file("frozen-at"));
    writeFileSync(file("health.json"), "x".repeat(65 * 1024));
    await moving.checkMovingFiles(name);
    expect(await moving.movingFiles(name)).toEqual([]);
    writeFileSync(file("life.json"), '{"count":-1}');
    expect(await life.loadLife(name)).toEqual(life.newLife(0));
    await moving.arrive(name);
  });
});

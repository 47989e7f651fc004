/** Commands about a container's life: how it is started, checked, ended and waited for. */
import { InvalidArgumentError } from "commander";
import { describe, expect, it } from "vitest";
import { parseDurationOrNone, parseRestart, parseSignal } from "../../../src/cli/parse.js";
import { policyText } from "../../../src/protocol/restart.js";
import { containerState } from "../daemon/fake-container.js";
import { FakeHost, serve } from "../daemon/fakes.js";
import { FakeIo, mwarp } from "./fake-io.js";

function hostWith(changes: Parameters<typeof containerState>[1] = {}): FakeHost {
  const host = new FakeHost("vm-a", "vm-b");
  host.guest("vm-a").containers.push(containerState("web", changes));
  return host;
}

describe("a restart policy", () => {
  it("is written as for Docker, and shown as it was written", () => {
    for (const text of ["no", "on-failure", "on-failure:3", "always", "unless-stopped"])
      expect(policyText(parseRestart(text))).toBe(text);
    for (const bad of ["", "never", "on-failure:0", "on-failure:x", "on-failure:1:2", "always:2", "ALWAYS"])
      expect(() => parseRestart(bad), bad).toThrow(InvalidArgumentError);
  });
});

describe("a signal, and a time", () => {
  it("has a name or a number, and may be none", () => {
    for (const text of ["SIGTERM", "TERM", "term", "15"]) expect(parseSignal(text)).toBe("SIGTERM");
    for (const bad of ["", "SIG", "0", "NOPE", "constructor"])
      expect(() => parseSignal(bad), bad).toThrow(InvalidArgumentError);
    expect(["0", "0s", "0ms", "2s"].map(parseDurationOrNone)).toEqual([0, 0, 0, 2000]);
    expect(() => parseDurationOrNone("-1")).toThrow(InvalidArgumentError);
  });
});

describe("run", () => {
  const run = ["run", "--vm", "vm-a", "--name", "web", "--rootfs", process.cwd()];
  const command = ["--", "/bin/mwarp"];

  it("refuses to say how health is checked where there is to be no check", async () => {
    const { status, err } = await mwarp(
      new FakeIo(),
      ...run,
      "--no-healthcheck",
      "--health-retries",
      "2",
      ...command,
    );
    expect([status, err]).toEqual([2, expect.stringContaining("--no-healthcheck")]);
  });
});

describe("ps", () => {
  it("tells of an exit code, of a want of memory, of restarts and of health", async () => {
    const host = hostWith({
      status: "restarting",
      pid: null,
      exitCode: 137,
      outOfMemory: true,
      restart: { count: 3, dueInMs: 700, error: null },
    });
    const well = containerState("api");
    const check = { command: ["x"], intervalMs: 5, timeoutMs: 6, retries: 7, startPeriodMs: 8 };
    const result = { startedAt: "2026-01-01T00:00:00.000Z", tookMs: 4, exitCode: null, output: "late" };
    host.guest("vm-b").containers.push({
      ...well,
      spec: { ...well.spec, health: check, restart: { name: "on-failure", most: 2 } },
      health: { status: "unhealthy", failingStreak: 9, results: [result] },
    });
    await using test = await serve(host);
    const { out } = await mwarp(new FakeIo(test.env), "ps");
    expect(out).toMatch(/^web .* restarting \(137, out of memory\) +3 /m);
    expect(out).toMatch(/^api .* running \(unhealthy\) +0 /m);
    const { containers } = JSON.parse((await mwarp(new FakeIo(test.env), "ps", "--json")).out) as {
      containers: { name: string }[];
    };
    expect(containers.find(({ name }) => name === "api")).toMatchObject({
      restart: { policy: "on-failure:2", count: 0, due_in_ms: null, error: null },
      health: {
        status: "unhealthy",
        failing_streak: 9,
        results: [{ started_at: result.startedAt, took_ms: 4, exit_code: null, output: "late" }],
        check: { command: ["x"], interval_ms: 5, timeout_ms: 6, retries: 7, start_period_ms: 8 },
      },
    });
  });
});

describe("stop, start and wait", () => {
  it("end a container, tell its exit code, and start it again", async () => {
    const host = hostWith();
    await using test = await serve(host);
    const waiting = mwarp(new FakeIo(test.env), "wait", "--container", "web");
    expect((await mwarp(new FakeIo(test.env), "stop", "web", "-t", "0", "-s", "int")).out).toBe("web\n");
    const asked = host.guest("vm-a").calls.find(({ method }) => method === "container.stop");
    expect(asked?.params).toEqual({ name: "web", signal: "SIGINT", graceMs: 0 });
    expect(await waiting).toMatchObject({ status: 0, out: "143\n" });
    expect((await mwarp(new FakeIo(test.env), "start", "web")).out).toBe("web\n");
    expect((await mwarp(new FakeIo(test.env), "ps")).out).toMatch(/^web .* running /m);
  });

  it("wait no longer than there is such a container, also where its VM has ended", async () => {
    const host = hostWith();
    await using test = await serve(host);
    expect((await mwarp(new FakeIo(test.env), "wait", "-c", "nope")).status).toBe(6);
    host.guest("vm-a").state = "gone";
    expect((await mwarp(new FakeIo(test.env), "wait", "-c", "web")).status).toBe(6);
  });

  it("remove one that waits to be started again only by force", async () => {
    const host = hostWith({ status: "restarting", pid: null, exitCode: 1 });
    await using test = await serve(host);
    expect((await mwarp(new FakeIo(test.env), "rm", "web")).status).toBe(4);
    expect((await mwarp(new FakeIo(test.env), "rm", "-f", "web")).status).toBe(0);
  });
});

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { commandLine, endProcess, isAlive, sendSignal, startTimeOf } from "../../../src/vm/process.js";

test("a process is known by pid and start time; another start time is another process", async () => {
  const child = spawn("sleep", ["60"]);
  const pid = child.pid ?? 0;
  const startTime = startTimeOf(pid) ?? "";
  expect(startTime).toMatch(/^\d+$/);
  expect(isAlive({ pid, startTime })).toBe(true);
  expect(isAlive({ pid, startTime: "1" })).toBe(false);
  expect(sendSignal({ pid, startTime: "1" }, "SIGKILL")).toBe(false);
  expect(isAlive({ pid, startTime })).toBe(true);
  await endProcess({ pid, startTime });
  expect(isAlive({ pid, startTime })).toBe(false);
  expect(startTimeOf(pid)).toBeNull();
});

test("a process whose first thread has ended lives until the last one has", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "mwarp-unit-"));
  try {
    const program = path.join(folder, "leader");
    execFileSync("gcc", [
      "-O1",
      "-o",
      program,
      path.join(import.meta.dirname, "zombie-leader.c"),
      "-lpthread",
    ]);
    const child = spawn(program, { stdio: ["pipe", "ignore", "inherit"] });
    const pid = child.pid ?? 0;
    const state = () => /\) (\S)/.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))?.[1];
    await expect.poll(state).toBe("Z");
    expect(startTimeOf(pid)).toMatch(/^\d+$/);
    child.stdin.end();
    await once(child, "exit");
    expect(startTimeOf(pid)).toBeNull();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a process that ignores SIGTERM is killed after its time of grace", async () => {
  const child = spawn("sh", ["-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]);
  await once(child.stdout, "data");
  const pid = child.pid ?? 0;
  const exit = once(child, "exit");
  await endProcess({ pid, startTime: startTimeOf(pid) ?? "" }, 100);
  expect(await exit).toEqual([null, "SIGKILL"]);
});

test("a command name with spaces and parentheses does not shift the fields", async () => {
  const child = spawn("bash", ["-c", 'printf ") S 1 1" >/proc/$$/comm; echo ready; read line']);
  await once(child.stdout, "data");
  const pid = child.pid ?? 0;
  expect(readFileSync(`/proc/${pid}/stat`, "utf8")).toContain(") S 1 1)");
  const startTime = Number(startTimeOf(pid));
  const own = Number(startTimeOf(process.pid));
  expect(startTime).toBeGreaterThanOrEqual(own);
  expect(startTime - own).toBeLessThan(100 * 3600);
  expect(commandLine(pid)[0]).toBe("bash");
  child.kill("SIGKILL");
});

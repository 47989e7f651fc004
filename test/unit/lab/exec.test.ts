import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { run } from "../../../src/lab/exec.js";

test("the output is returned, and a failure quotes the last lines of the command", async () => {
  expect(await run(["echo", "hello"])).toBe("hello\n");
  const failing = run(["sh", "-c", "echo noise; for i in 1 2 3; do echo line $i >&2; done; exit 7"]);
  await expect(failing).rejects.toMatchObject({
    code: "MWARP_E_LAB",
    message: expect.stringContaining("exit code 7"),
    details: ["line 1", "line 2", "line 3"],
  });
  await expect(run(["/no/such/program"])).rejects.toMatchObject({ code: "MWARP_E_LAB" });
});

test("a time limit and a cancel end the command", async () => {
  await expect(run(["sleep", "60"], { timeoutMs: 50 })).rejects.toMatchObject({ code: "MWARP_E_TIMEOUT" });
  const abort = new AbortController();
  const cancelled = run(["sleep", "60"], { signal: abort.signal });
  await sleep(20);
  abort.abort();
  await expect(cancelled).rejects.toMatchObject({ code: "MWARP_E_CANCELLED" });
  await expect(run(["echo"], { signal: abort.signal })).rejects.toMatchObject({ code: "MWARP_E_CANCELLED" });
});

test("a command that ignores SIGTERM ends at once when told to end with SIGKILL", async () => {
  const stubborn = ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"];
  const before = performance.now();
  await expect(run(stubborn, { timeoutMs: 100, endWith: "SIGKILL" })).rejects.toMatchObject({
    code: "MWARP_E_TIMEOUT",
  });
  expect(performance.now() - before).toBeLessThan(2500);
});

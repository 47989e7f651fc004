import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, test } from "vitest";
import { withLock } from "../../src/lock.js";

const options = (waitMs: number) => ({ waitMs, busy: "somebody is at work" });
const path = `/nowhere/${process.pid}`;

test("the second holder is told it is busy, or waits until the first is done", async () => {
  const order: string[] = [];
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const first = withLock("test", path, options(0), async () => {
    order.push("first");
    await held;
  });
  await expect(withLock("test", path, options(0), async () => order.push("never"))).rejects.toMatchObject({
    code: "MWARP_E_BUSY",
    message: "somebody is at work",
  });
  let waited = false;
  const onWait = () => {
    waited = true;
    release();
  };
  await withLock("test", path, { ...options(5000), onWait }, async () => order.push("second"));
  await first;
  expect(order).toEqual(["first", "second"]);
  expect(waited).toBe(true);
});

test("locks of other paths and other kinds do not meet", async () => {
  await withLock("test", `${path}/a`, options(0), () =>
    withLock("test", `${path}/b`, options(0), () =>
      withLock("other", `${path}/a`, options(0), async () => undefined),
    ),
  );
});

test("a failed action frees the lock", async () => {
  await expect(
    withLock("test", `${path}/c`, options(0), async () => Promise.reject(new Error("no"))),
  ).rejects.toThrow("no");
  await withLock("test", `${path}/c`, options(0), async () => undefined);
});

test("a killed holder leaves no lock behind", async () => {
  const name = "\\0mwarp-test-killed";
  const program = `require("net").createServer().listen("${name}", () => console.log("held"))`;
  const child = spawn(process.execPath, ["-e", program]);
  await once(child.stdout, "data");
  child.kill("SIGKILL");
  await once(child, "exit");
  const { createServer } = await import("node:net");
  const server = createServer();
  server.listen("\0mwarp-test-killed");
  await once(server, "listening");
  server.close();
});

test("waiting can be cancelled", async () => {
  const abort = new AbortController();
  await withLock("test", `${path}/d`, options(0), async () => {
    const waiting = withLock(
      "test",
      `${path}/d`,
      { ...options(60_000), signal: abort.signal },
      async () => undefined,
    );
    abort.abort();
    await expect(waiting).rejects.toMatchObject({ code: "MWARP_E_CANCELLED" });
  });
});

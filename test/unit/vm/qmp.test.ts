import { describe, expect, test } from "vitest";
import { QmpClient, type QmpEvent } from "../../../src/vm/qmp.js";
import { answer, monitor } from "./fake-monitor.js";
import { PausedQemu } from "./paused-qemu.js";

describe("with a real QEMU", () => {
  test("commands are answered, errors carry QEMU's words, events arrive", async () => {
    await using qemu = await PausedQemu.start();
    expect(qemu.qmp.qemuVersion).toMatch(/^\d+\.\d+\.\d+$/);
    expect(await qemu.qmp.execute("query-status")).toMatchObject({ running: false });
    await expect(qemu.qmp.execute("no-such-command")).rejects.toMatchObject({
      code: "MWARP_E_PROTOCOL",
      message: expect.stringContaining("no-such-command"),
    });
    const seen: QmpEvent[] = [];
    qemu.qmp.onEvent((event) => seen.push(event));
    await qemu.qmp.execute("cont");
    await qemu.qmp.execute("stop");
    expect(seen.map((event) => event.name)).toEqual(["RESUME", "STOP"]);
    expect(await qemu.qmp.humanCommand("info version")).toMatch(/^7|8|9|1\d/);
  });

  test("a second client is told that the socket is taken, and does not disturb the first", async () => {
    await using qemu = await PausedQemu.start();
    await expect(QmpClient.open(qemu.endpoint.qmpSocket, { timeoutMs: 200 })).rejects.toMatchObject({
      code: "MWARP_E_VM_UNREACHABLE",
      message: expect.stringContaining("another program is connected"),
    });
    expect(await qemu.qmp.execute("query-status")).toMatchObject({ running: false });
    qemu.qmp.close();
    using next = await QmpClient.open(qemu.endpoint.qmpSocket);
    expect(next.closed).toBe(false);
  });

  test("commands under way fail when QEMU ends", async () => {
    await using qemu = await PausedQemu.start();
    process.kill(qemu.endpoint.pid, "SIGKILL");
    await expect(qemu.qmp.execute("query-status")).rejects.toMatchObject({ code: "MWARP_E_VM_UNREACHABLE" });
    await expect(qemu.qmp.execute("query-status")).rejects.toMatchObject({ code: "MWARP_E_VM_UNREACHABLE" });
  });
});

test("nobody listens: unreachable at once", async () => {
  await expect(QmpClient.open("/no/such/socket")).rejects.toMatchObject({ code: "MWARP_E_VM_UNREACHABLE" });
});

test("an answer that never comes is a timeout, and a late one does not confuse the next command", async () => {
  const path = await monitor((socket, line) => {
    if (line.includes('"slow"')) setTimeout(() => answer(socket, line, "late"), 100);
    else answer(socket, line, "quick");
  });
  using qmp = await QmpClient.open(path);
  await expect(qmp.execute("slow", {}, { timeoutMs: 20 })).rejects.toMatchObject({ code: "MWARP_E_TIMEOUT" });
  expect(await qmp.execute("other")).toBe("quick");
  await new Promise((resolve) => setTimeout(resolve, 120));
  expect(await qmp.execute("other")).toBe("quick");
});

test("cancelling ends the waiting for one command only", async () => {
  const path = await monitor((socket, line) => {
    if (!line.includes('"never"')) answer(socket, line, 1);
  });
  using qmp = await QmpClient.open(path);
  const abort = new AbortController();
  const pending = qmp.execute("never", {}, { signal: abort.signal });
  abort.abort();
  await expect(pending).rejects.toMatchObject({ code: "MWARP_E_CANCELLED" });
  expect(await qmp.execute("other")).toBe(1);
});

test("messages in pieces and several at once are put together", async () => {
  const path = await monitor((socket, line) => {
    const text = `{"event": "STOP", "timestamp": {}}\r\n{"return": "x", "id": ${JSON.parse(line).id}}\r\n`;
    socket.write(text.slice(0, 7));
    setTimeout(() => socket.write(text.slice(7)), 5);
  });
  using qmp = await QmpClient.open(path);
  expect(await qmp.execute("a")).toBe("x");
  expect(await qmp.execute("b")).toBe("x");
});

test("something that is no monitor is a protocol error", async () => {
  const path = await monitor(() => undefined, "SSH-2.0-OpenSSH_9.2\r\n");
  await expect(QmpClient.open(path)).rejects.toMatchObject({ code: "MWARP_E_PROTOCOL" });
});

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VmSession } from "../../../src/migration/vm-session.js";
import { PausedQemu } from "../vm/paused-qemu.js";

describe("a VM that is opened for a stun", () => {
  let directory: string;
  let qemu: PausedQemu;
  let session: VmSession;
  beforeAll(async () => {
    directory = mkdtempSync(path.join(tmpdir(), "mwarp-session-"));
    // The session has a monitor of its own; the test looks on by the other one.
    const qmpSocket = path.join(directory, "qmp");
    qemu = await PausedQemu.start({ devices: ["-qmp", `unix:${qmpSocket},server=on,wait=off`] });
    const endpoint = { ...qemu.endpoint, qmpSocket };
    session = await VmSession.open(endpoint, await qemu.layout(), false, new AbortController().signal);
  });
  afterAll(async () => {
    session.close();
    await qemu[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });
  const status = async (): Promise<unknown> =>
    ((await qemu.qmp.execute("query-status")) as { status: string }).status;

  it("is left as it is when somebody else has paused it, also by what undoes a pause", async () => {
    await qemu.qmp.execute("cont");
    await qemu.qmp.execute("stop");
    await expect(session.pause(1000)).rejects.toMatchObject({ code: "MWARP_E_VM_UNREACHABLE" });
    await session.continue();
    expect(await status()).toBe("paused");
  });

  it("goes on after its pause", async () => {
    await qemu.qmp.execute("cont");
    await session.pause(1000);
    expect(await status()).toBe("paused");
    await session.continue();
    expect(await status()).toBe("running");
  });

  it("must not be changed once a migration of the VM itself has begun", async () => {
    await session.mustBeChangeable(1000);
    await qemu.qmp.execute("migrate-set-parameters", { "max-bandwidth": 1 });
    await qemu.qmp.execute("migrate", { uri: "exec:cat >/dev/null" });
    await expect(session.mustBeChangeable(1000)).rejects.toMatchObject({ code: "MWARP_E_UNSUPPORTED" });
    await qemu.qmp.execute("migrate_cancel");
    await expect.poll(() => session.mustBeChangeable(1000).then(() => "free", String)).toBe("free");
  });
});

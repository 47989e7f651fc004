import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startVm } from "../../../src/lab/vms.js";

let run: string;
beforeEach(() => {
  run = mkdtempSync(join(tmpdir(), "mwarp-vms-"));
});
afterEach(() => rmSync(run, { recursive: true }));

test("a VM's directory, where its sockets will be, is its owner's alone, whatever the umask", () => {
  const directory = join(run, "vms", "vm-a");
  const umask = process.umask(0);
  try {
    // In a namespace that there is not: nothing boots.
    startVm({
      name: "vm-a",
      directory,
      namespace: "mwarp-no-such-namespace",
      address: "10.77.0.10",
      mac: "02:4d:57:00:00:0a",
      memoryBytes: 2 ** 26,
      cpus: 1,
      accelerator: "tcg",
      backing: "4k",
      allocation: "on-demand",
      memoryBacking: "shared",
      preload: null,
      extra: [],
      kernel: "/none",
      initramfs: "/none",
      disk: "/none",
    });
  } catch (error) {
    // It may have ended before anybody could look.
    expect(error).toMatchObject({ code: "MWARP_E_LAB", message: "vm-a: QEMU did not start" });
  } finally {
    process.umask(umask);
  }
  expect(statSync(directory).mode & 0o777).toBe(0o700);
  expect(statSync(join(directory, "qemu.log")).mode & 0o777).toBe(0o600);
});

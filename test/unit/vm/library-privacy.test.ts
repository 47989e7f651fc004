/** Who can reach the library in a VMM: the daemon, and nobody by way of the VMM's children. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { BackingReader } from "../../../src/vm/backing.js";
import { VmmLibrary } from "../../../src/vm/vmm-library.js";
import { builtLibrary, PausedQemu } from "./paused-qemu.js";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "mwarp-privacy-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

interface Child {
  readonly environment: string[];
  readonly maps: string;
  /** Where its descriptors lead. */
  readonly descriptors: string;
}

/** What a program sees of itself that QEMU starts: the sink of an outgoing migration is one. */
async function childOf(qemu: PausedQemu): Promise<Child> {
  const file = (name: string): string => join(directory, name);
  const look = [
    `cat /proc/self/environ >${file("environ")}`,
    `cat /proc/self/maps >${file("maps")}`,
    `ls -l /proc/$$/fd >${file("fd")}`,
    `touch ${file("done")}`,
    "cat >/dev/null",
  ];
  await qemu.qmp.execute("migrate", { uri: `exec:${look.join("; ")}` });
  await expect.poll(() => existsSync(file("done")), { timeout: 5000 }).toBe(true);
  await qemu.qmp.execute("migrate_cancel");
  return {
    environment: readFileSync(file("environ"), "utf8")
      .split("\0")
      .filter((variable) => variable !== ""),
    maps: readFileSync(file("maps"), "utf8"),
    descriptors: readFileSync(file("fd"), "utf8"),
  };
}

const preloads = (environment: readonly string[]): string[] =>
  environment.filter((variable) => /^(LD_PRELOAD|MWARP_)/.test(variable));

describe("QEMU's children", () => {
  test("get neither the library nor its socket nor a memory file, while QEMU itself has them", async () => {
    await using qemu = await PausedQemu.start();
    const { pid, vmmSocket } = qemu.endpoint;
    using library = await VmmLibrary.connect(vmmSocket!);
    await library.open(new BackingReader(pid, await qemu.layout()).read().files[0]!.path);
    expect(readFileSync(`/proc/${pid}/maps`, "utf8")).toContain(builtLibrary());

    const child = await childOf(qemu);
    expect(child.environment.some((variable) => variable.startsWith("PATH="))).toBe(true);
    expect(preloads(child.environment)).toEqual([]);
    expect(child.maps).toContain("[stack]");
    expect(child.maps).not.toContain("libmwarp");
    expect(child.descriptors).toMatch(/ 0 -> /);
    expect(child.descriptors).not.toMatch(/memfd/);
    // The library still serves: what was taken out of the environment is not needed any more.
    await library.open(new BackingReader(pid, await qemu.layout()).read().files[0]!.path);
  });

  test("keep what else was to be preloaded", async () => {
    await using qemu = await PausedQemu.start({ alsoPreload: "libm.so.6" });
    expect(preloads((await childOf(qemu)).environment)).toEqual(["LD_PRELOAD=libm.so.6"]);
  });
});

describe("the library's socket", () => {
  test("is its owner's alone, whatever the umask, and gone after QEMU has ended", async () => {
    const umask = process.umask(0);
    const starting = PausedQemu.start();
    process.umask(umask);
    const qemu = await starting;
    const path = qemu.endpoint.vmmSocket!;
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await qemu.qmp.execute("quit").catch(() => undefined);
    await expect.poll(() => existsSync(path), { timeout: 5000 }).toBe(false);
    await qemu[Symbol.asyncDispose]();
  });
});

/** A tar that was started before there was anything to pack. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  endArchive,
  LayerArchive,
  startArchive,
  takeArchive,
} from "../../../src/agent/migration/layer-archive.js";

let folder = "";
let dir = "";

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "mwarp-layer-"));
  dir = path.join(folder, "container");
  mkdirSync(path.join(dir, "upper"), { recursive: true });
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** What an archive has of the directory, unpacked elsewhere. */
async function unpacked(archive: LayerArchive): Promise<(file: string) => string> {
  const pieces: Buffer[] = [];
  const write = async (data: Uint8Array): Promise<void> => void pieces.push(Buffer.from(data));
  await archive.send({ write });
  const target = path.join(folder, "unpacked");
  mkdirSync(target);
  execFileSync("tar", ["-C", target, "-xf", "-"], { input: Buffer.concat(pieces) });
  return (file) => readFileSync(path.join(target, file), "utf8");
}

describe("the archive of a writable layer", () => {
  it("has what there is when it is asked for, not when it was started", async () => {
    writeFileSync(path.join(dir, "upper", "changed"), "before");
    const archive = new LayerArchive(dir);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(archive.waits).toBe(true);
    writeFileSync(path.join(dir, "upper", "changed"), "after");
    writeFileSync(path.join(dir, "upper", "--new\nname"), "odd");
    writeFileSync(path.join(dir, "log"), "a line\n");
    const file = await unpacked(archive);
    expect(file("upper/changed")).toBe("after");
    expect(file("upper/--new\nname")).toBe("odd");
    expect(file("log")).toBe("a line\n");
    expect(archive.waits).toBe(false);
  });

  it("is an error when a file of it cannot be read", async () => {
    const archive = new LayerArchive(dir);
    rmSync(path.join(dir, "upper"), { recursive: true });
    await expect(archive.send({ write: async () => undefined })).rejects.toMatchObject({
      code: "MWARP_E_RUNTIME",
      details: expect.arrayContaining([expect.stringContaining("upper")]),
    });
  });

  it("ends when who takes it hangs up", async () => {
    writeFileSync(path.join(dir, "upper", "large"), Buffer.alloc(1 << 20));
    const archive = new LayerArchive(dir);
    const write = async (): Promise<void> => Promise.reject(new Error("hung up"));
    await expect(archive.send({ write })).rejects.toThrow("hung up");
    expect(archive.waits).toBe(false);
  });
});

describe("an archive that waits for a migration", () => {
  it("is for the one who asks first", async () => {
    await startArchive("one", dir);
    const [first, second] = [takeArchive("one", dir), takeArchive("one", dir)];
    expect(first).not.toBe(second);
    for (const archive of [first, second]) await archive.end();
  });

  it("is made anew when it was killed, so that its end costs no migration", async () => {
    writeFileSync(path.join(dir, "upper", "file"), "there");
    await startArchive("one", dir);
    const killed = takeArchive("one", dir);
    await killed.end();
    expect(killed.waits).toBe(false);
    const file = await unpacked(takeArchive("one", dir));
    expect(file("upper/file")).toBe("there");
  });

  it("is gone when the migration is over", async () => {
    await startArchive("one", dir);
    await endArchive("one");
    await endArchive("one");
    const fresh = takeArchive("one", dir);
    expect(fresh.waits).toBe(true);
    await fresh.end();
  });
});

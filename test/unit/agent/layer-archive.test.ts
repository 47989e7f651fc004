/** A tar that was started before there was anything to pack. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LayerArchive } from "../../../src/agent/migration/layer-archive.js";

let folder = "";
let dir = "";

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "mwarp-layer-"));
  dir = path.join(folder, "container");
  mkdirSync(path.join(dir, "upper"), { recursive: true });
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

const names = (...list: string[]): Buffer => Buffer.from(list.map((name) => `${name}\0`).join(""));

/** Where an archive was unpacked. */
async function unpacked(archive: LayerArchive, list: Uint8Array): Promise<(file: string) => string> {
  const pieces: Buffer[] = [];
  const write = async (data: Uint8Array): Promise<void> => void pieces.push(Buffer.from(data));
  await archive.send(list, { write });
  const target = path.join(folder, "unpacked");
  mkdirSync(target);
  execFileSync("tar", ["-C", target, "-xf", "-"], { input: Buffer.concat(pieces) });
  return (file) => path.join(target, file);
}

describe("the archive of what has changed", () => {
  it("has what is named, as it is then, and nothing that lies beside it", async () => {
    writeFileSync(path.join(dir, "upper", "changed"), "before");
    const archive = new LayerArchive(dir, "still");
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(archive.waits).toBe(true);
    writeFileSync(path.join(dir, "upper", "changed"), "after");
    writeFileSync(path.join(dir, "upper", "--new\nname"), "odd");
    writeFileSync(path.join(dir, "upper", "same"), "there already");
    const file = await unpacked(archive, names("upper", "upper/changed", "upper/--new\nname"));
    expect(readFileSync(file("upper/changed"), "utf8")).toBe("after");
    expect(readFileSync(file("upper/--new\nname"), "utf8")).toBe("odd");
    expect(() => readFileSync(file("upper/same"))).toThrow("ENOENT");
    expect(archive.waits).toBe(false);
  });

  it("has holes where a file has them", async () => {
    const sparse = path.join(dir, "upper", "sparse");
    writeFileSync(sparse, "data");
    truncateSync(sparse, 1 << 28);
    const file = await unpacked(new LayerArchive(dir, "still"), names("upper/sparse"));
    const { size, blocks } = statSync(file("upper/sparse"));
    expect(size).toBe(1 << 28);
    expect(blocks * 512).toBeLessThan(1 << 20);
  });

  it("is an error when a file of it cannot be read", async () => {
    const archive = new LayerArchive(dir, "still");
    await expect(archive.send(names("upper/none"), { write: async () => undefined })).rejects.toMatchObject({
      code: "MWARP_E_RUNTIME",
      details: expect.arrayContaining([expect.stringContaining("upper/none")]),
    });
  });

  it("ends when who takes it hangs up", async () => {
    writeFileSync(path.join(dir, "upper", "large"), Buffer.alloc(1 << 20));
    const archive = new LayerArchive(dir, "still");
    const write = async (): Promise<void> => Promise.reject(new Error("hung up"));
    await expect(archive.send(names("upper/large"), { write })).rejects.toThrow("hung up");
    expect(archive.waits).toBe(false);
  });
});

it("the archive of a running container has all that is in what is named", async () => {
  mkdirSync(path.join(dir, "upper", "deep"));
  writeFileSync(path.join(dir, "upper", "deep", "file"), "there");
  const file = await unpacked(new LayerArchive(dir, "live"), names("upper"));
  expect(readFileSync(file("upper/deep/file"), "utf8")).toBe("there");
});

/** Images become root file systems and processes, by the tools that are really used. */
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { mergeEnv, requirePlatform } from "../../../src/container/image/config.js";
import { lastWord, runTool } from "../../../src/container/image/tool.js";
import { unpackImage } from "../../../src/container/image/unpack.js";
import { makeOciConfig } from "../../../src/container/oci.js";
import { archiveRootfs } from "../../../src/container/rootfs.js";
import {
  copyImage,
  makeDamaged,
  makeForeign,
  makeLayout,
  saveWithHealthcheck,
} from "../../support/images.js";

const directory = mkdtempSync(path.join(tmpdir(), "mwarp-image-"));
const layout = path.join(directory, "layout");
const scratch = path.join(directory, "scratch");
const signal = AbortSignal.timeout(100_000);
const at = (name: string): string => path.join(directory, name);
const unpack = (file: string, tag: string | null = null, command: readonly string[] = []) =>
  unpackImage({ file, tag, command }, scratch, signal);

beforeAll(() => makeLayout(layout), 60_000);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe("an image", () => {
  it("gives the files of its layers, with their owners, without what a layer took away", async () => {
    await using image = await unpack(layout, "app");
    const data = path.join(image.rootfs, "data");
    expect(readdirSync(data).sort()).toEqual(["added", "kept"]);
    const owner = (file: string): number[] => [statSync(file).uid, statSync(file).gid];
    expect([owner(data), owner(path.join(data, "added"))]).toEqual([
      [1234, 1235],
      [4321, 0],
    ]);
    expect(statSync(path.join(image.rootfs, "volume/deep")).isDirectory()).toBe(true);
    expect(readdirSync(`${layout}.outside`)).toEqual([]);
  });

  it("gives the process that docker run would start", async () => {
    await using image = await unpack(layout, "app");
    expect(image.process).toMatchObject({
      argv: ["/bin/sh", "-c", "id; pwd; env; ls /data; exec sleep 1000"],
      cwd: "/data",
      user: { uid: 1234, gid: 1235, additionalGids: [1235, 77] },
      annotations: {
        "org.opencontainers.image.stopSignal": "SIGINT",
        "org.opencontainers.image.exposedPorts": "80/tcp",
      },
    });
    expect(image.process.env).toEqual(
      expect.arrayContaining(["COLOUR=red", "SIZE=big", "HOME=/home/web", expect.stringMatching(/^PATH=/)]),
    );
    expect(image.process.env.join()).not.toContain("TERM=");
    const config = makeOciConfig({ ...image.process, hostname: "x", memoryLimitBytes: null, terminal: null });
    expect(config).toMatchObject({
      process: { user: { uid: 1234 } },
      annotations: image.process.annotations,
    });
  });

  it("that docker saved has the health check that it was built with", async () => {
    const archive = at("checked.tar");
    saveWithHealthcheck(layout, archive, { Test: ["CMD", "/check"], Interval: 2e9 });
    await using image = await unpack(archive);
    expect(image.process.health).toMatchObject({ command: ["/check"], intervalMs: 2000, retries: null });
    await using plain = await unpack(layout, "app");
    expect(plain.process.health).toBeNull();
  });

  it("runs another command behind its entry point when one is given, and none at all when nothing says one", async () => {
    await using image = await unpack(layout, "app", ["echo hello"]);
    expect(image.process.argv).toEqual(["/bin/sh", "-c", "echo hello"]);
    await expect(unpack(layout, "base")).rejects.toThrow("nothing of what to run");
  });

  it("is the same root file system in each form, however often it is unpacked", async () => {
    copyImage(layout, `docker-archive:${at("saved.tar")}:web:1.0`);
    copyImage(layout, `oci-archive:${at("layout.tar")}:app`);
    const digests = new Set<string>();
    const sources = [
      [layout, "app"],
      [layout, "app"],
      [at("saved.tar"), null],
      [at("saved.tar"), "web:1.0"],
      [at("layout.tar"), "app"],
      [at("layout.tar"), null],
    ] as const;
    for (const [file, tag] of sources) {
      await using image = await unpack(file, tag);
      digests.add((await archiveRootfs(image.rootfs, at("store"), signal)).digest);
      expect(image.process.user.uid).toBe(1234);
    }
    expect(digests.size).toBe(1);
  }, 100_000);

  it("leaves nothing behind, unpacked or not", () => expect(readdirSync(scratch)).toEqual([]));
});

describe("what is no usable image", () => {
  const cases: readonly (readonly [what: string, make: () => [string, string | null], message: RegExp])[] = [
    ["nothing at all", () => [at("nowhere"), null], /nowhere cannot be read/],
    ["a directory without a layout", () => [directory, null], /no usable index\.json/],
    ["a layout of several images without a tag", () => [layout, null], /several images: it has base, app/],
    ["a tag that is not there", () => [layout, "other"], /no image "other"; it has base, app/],
    [
      "a saved image of another name",
      () => [at("saved.tar"), "web:2.0"],
      /no image "web:2\.0"; it has .*web:1\.0/,
    ],
    [
      "one for another processor",
      () => {
        makeForeign(layout, at("foreign"));
        return [at("foreign"), "app"];
      },
      /for linux\/s390x, not for linux\//,
    ],
    [
      "one with a damaged blob",
      () => {
        makeDamaged(layout, at("damaged"));
        return [at("damaged"), "app"];
      },
      /[Dd]igest did not match/,
    ],
    [
      "a file that is no archive",
      () => {
        writeFileSync(at("text"), "hello\n".repeat(1000));
        return [at("text"), null];
      },
      /is not a tar archive/,
    ],
    [
      "an archive that was cut off",
      () => {
        writeFileSync(at("cut.tar"), readFileSync(at("layout.tar")));
        truncateSync(at("cut.tar"), 5000);
        return [at("cut.tar"), null];
      },
      /is a tar archive that was cut off/,
    ],
    ["a path that skopeo cannot take", () => ["/a:b", null], /colon/],
  ];
  it.each(cases)("is refused with the reason: %s", async (_what, make, message) => {
    const [file, tag] = make();
    await expect(unpack(file, tag)).rejects.toMatchObject({
      code: "MWARP_E_USAGE",
      message: expect.stringMatching(message),
    });
    expect(readdirSync(scratch)).toEqual([]);
  });

  it("is said to be so by the tools' own last words", async () => {
    expect(lastWord("skopeo", 'time="x" level=fatal msg="no \\"such\\" thing"\n')).toBe(
      'skopeo: no "such" thing',
    );
    expect(lastWord("umoci", "   ⨯ a blob\n")).toContain("a blob");
    await expect(runTool(["no-such-tool-of-ours"], signal)).rejects.toThrow("not installed");
    expect(() => requirePlatform({ architecture: "amd64", os: "windows", config: {} }, "x64")).toThrow(
      "windows",
    );
  });
});

it("a variable that is set again replaces the image's", () => {
  expect(mergeEnv(["A=1", "B=2"], ["B=3", "C=", "A=b=c"])).toEqual(["A=b=c", "B=3", "C="]);
});

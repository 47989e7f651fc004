/** What an agent offers to stage, and what it tells the library in CRIU. */
import { mkdir, mkdtemp, readdir, readlink, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { candidates, choose } from "../../../src/agent/migration/stageable.js";
import { linkParent, readStaging, stageList } from "../../../src/agent/migration/staging.js";
import { migrationPaths } from "../../../src/agent/paths.js";
import { HANDOVER_FILE, MAX_STAGED_FILLS, type StagedMapping } from "../../../src/protocol/stage.js";

const KIB = 1024;
const mappingText = (header: string, flags: string): string =>
  `${header}\nSize:               4096 kB\nRss:                4096 kB\nAnonymous:          4096 kB\nAnonHugePages:      2048 kB\nVmFlags: ${flags} \n`;
const plain = "7f0000000000-7f0000400000 rw-p 00000000 00:00 0 ";

describe("mappings that can be staged", () => {
  test("are plain private memory of 2 MiB and more, with what was said of huge pages", () => {
    const smaps = [
      mappingText(plain, "rd wr mr mw me ac sd"),
      mappingText(
        "55d000000000-55d000400000 rw-p 00000000 00:00 0                          [heap]",
        "rd wr mr mw me ac hg",
      ),
      mappingText(
        "7f1000000000-7f1000400000 rw-p 00000000 00:00 0                  [anon:jemalloc]",
        "rd wr nr nh",
      ),
    ].join("");
    const [page, hugeBytes] = [0x7f0000000000 / 4096, 2048 * KIB];
    expect(candidates(smaps, "on")).toEqual([
      { page, pages: 1024, commit: "reserve", hugePages: "default", hugeBytes },
      { page: 0x55d000000000 / 4096, pages: 1024, commit: "reserve", hugePages: "asked", hugeBytes },
      { page: 0x7f1000000000 / 4096, pages: 1024, commit: "noreserve", hugePages: "refused", hugeBytes },
    ]);
    expect(candidates(smaps, "off").map(({ hugePages }) => hugePages)).toEqual(["off", "off", "off"]);
  });

  test.each([
    ["read only", plain.replace("rw-p", "r--p"), "rd mr"],
    ["shared", plain.replace("rw-p", "rw-s"), "rd wr sh"],
    ["of a file", "7f0000000000-7f0000400000 rw-p 00000000 fe:00 4711   /usr/lib/libc.so", "rd wr"],
    ["small", "7f0000000000-7f00001ff000 rw-p 00000000 00:00 0 ", "rd wr"],
    ["a stack", "7ffc00000000-7ffc00400000 rw-p 00000000 00:00 0                    [stack]", "rd wr gd"],
    ["one that grows down", plain, "rd wr gd"],
    ["locked", plain, "rd wr lo"],
    ["hugetlb", plain, "rd wr ht"],
    ["of a device", plain, "rd wr io pf"],
    ["of a TiB with little in it", plain.replace("7f0000400000", "7fff00000000"), "rd wr mr mw me ac sd"],
  ])("are none that are %s", (_, header, flags) => {
    expect(candidates(mappingText(header, flags), "on")).toEqual([]);
  });
});

const mapping = (changes: Partial<StagedMapping>): StagedMapping => ({
  nsPid: 1,
  page: 1000,
  pages: 100_000,
  commit: "reserve",
  hugePages: "default",
  hugeBytes: 0,
  fills: [{ page: 1100, pages: 512 }],
  ...changes,
});

describe("what is offered", () => {
  test("leaves out mappings with nothing in memory, and has the largest first", () => {
    const [small, none, large] = [
      mapping({}),
      mapping({ fills: [] }),
      mapping({ fills: [{ page: 2000, pages: 1024 }] }),
    ];
    expect(choose([small, none, large])).toEqual([large, small]);
  });

  test("is never more than the protocol takes: the shortest runs stay behind", () => {
    const fills = Array.from({ length: MAX_STAGED_FILLS + 10 }, (_, i) => ({
      page: 1000 + i * 100,
      pages: i < 20 ? 16 : 17,
    }));
    const [chosen] = choose([mapping({ fills })]);
    expect(chosen!.fills.length).toBe(MAX_STAGED_FILLS - 10);
    expect(chosen!.fills.every(({ pages }) => pages === 17)).toBe(true);
  });
});

describe("on the destination", () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "mwarp-staging-"));
  });
  afterEach(() => rm(dir, { recursive: true }));
  const paths = () => ({
    ...migrationPaths("made-up-1"),
    images: join(dir, "images"),
    parent: join(dir, "parent"),
    stageState: join(dir, "stage.state"),
  });

  test("the list has each run from the start of its mapping, in the words of stage.c", () => {
    const two = [mapping({}), mapping({ nsPid: 7, commit: "noreserve", hugePages: "off", fills: [] })];
    expect(stageList(two)).toBe("map 1 1000 100000 0 0\nfill 100 512\nmap 7 1000 100000 1 3\n");
  });

  test("the library has not begun, works, or is done", async () => {
    expect(await readStaging(paths())).toBeNull();
    const state = Buffer.alloc(4 * KIB);
    await writeFile(paths().stageState, state);
    expect(await readStaging(paths())).toEqual({ outcome: 0, stagedPages: 0, handedPages: 0 });
    state.writeInt32LE(-12, 0);
    state.writeBigUInt64LE(262_144n, 8);
    state.writeBigUInt64LE(512n, 16);
    await writeFile(paths().stageState, state);
    expect(await readStaging(paths())).toEqual({ outcome: -12, stagedPages: 262_144, handedPages: 512 });
  });

  test("the images get a parent that is found from any root, for each task with pages", async () => {
    await mkdir(paths().images);
    await linkParent(paths(), [{ name: "pagemap-1.img", bytes: 10 }]);
    expect(await readdir(paths().images)).toEqual([]);
    const names = ["pagemap-1.img", "pagemap-17.img", "pagemap-shmem-3.img", HANDOVER_FILE];
    await linkParent(
      paths(),
      names.map((name) => ({ name, bytes: 10 })),
    );
    expect(await readlink(join(paths().images, "parent"))).toBe("../parent");
    const inParent = await readdir(join(paths().images, "parent"));
    expect(inParent).toEqual(
      expect.arrayContaining(["inventory.img", "pagemap-1.img", "pagemap-17.img", "pages-1.img"]),
    );
    expect(inParent).not.toContain("pagemap-3.img");
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodePagemap } from "../../../src/criu/pagemap.js";
import { rewriteSkeleton } from "../../../src/criu/skeleton.js";
import type { PageRun } from "../../../src/protocol/agent.js";
import { runs } from "../../support/long.js";
import {
  dump,
  type MappingKind,
  mapping,
  PAGE,
  pageByte,
  pagemapImage,
  pagesOf,
  readFromTask,
  type TestTask,
} from "./images.js";

const PARENT = 1;
const LAZY = 2;
const PRESENT = 4;

const task = (pid = 1): TestTask => ({
  pid,
  mappings: [
    { page: 100, pages: 10, kind: "filePrivate" },
    { page: 110, pages: 20, kind: "heap" },
    { page: 200, pages: 8, kind: "readOnly" },
    { page: 300, pages: 4, kind: "vdso" },
    { page: 400, pages: 10, kind: "stack" },
  ],
  entries: [
    // One run over two mappings, as CRIU writes it for neighbours.
    { page: 105, pages: 15, flags: PARENT },
    { page: 202, pages: 2, flags: PARENT },
    { page: 300, pages: 2, flags: PRESENT },
    { page: 302, pages: 2, flags: PARENT },
    { page: 401, pages: 3, flags: PARENT },
    { page: 404, pages: 1, flags: PRESENT | LAZY },
    { page: 405, pages: 5, flags: PARENT },
  ],
});

/** page -> byte of every page the pagemap of `pid` holds, read from its pages file. */
function contents(files: ReadonlyMap<string, Uint8Array>, pid: number): Map<number, number> {
  const { pagesId, runs } = decodePagemap("pagemap", files.get(`pagemap-${pid}.img`)!);
  const bytes = files.get(`pages-${pagesId}.img`)!;
  const found = new Map<number, number>();
  let at = 0;
  for (const { page, pages, present } of runs) {
    expect(present).toBe(true);
    for (let i = 0; i < pages; i++, at += PAGE) {
      const content = bytes.subarray(at, at + PAGE);
      expect(content.every((byte) => byte === content[0])).toBe(true);
      found.set(page + i, content[0]!);
    }
  }
  expect(at).toBe(bytes.length);
  return found;
}

const pagesIn = (runs: readonly { page: number; pages: number }[]): number[] =>
  runs.flatMap(({ page, pages }) => Array.from({ length: pages }, (_, i) => page + i));

describe("rewriteSkeleton", () => {
  it("drops pages of anonymous writable mappings and fills the others in the order of their addresses", async () => {
    const { files, wanted, counts } = await rewriteSkeleton(dump([task()]), readFromTask);
    expect(wanted).toEqual([
      { nsPid: 1, page: 110, pages: 10 },
      { nsPid: 1, page: 401, pages: 3 },
      { nsPid: 1, page: 405, pages: 5 },
    ]);
    const held = contents(files, 1);
    expect([...held.keys()]).toEqual([105, 106, 107, 108, 109, 202, 203, 300, 301, 302, 303, 404]);
    for (const [page, byte] of held) expect(byte).toBe(pageByte(1, page));
    expect(counts).toEqual({ tasks: 1, listed: 30, kept: 3, filled: 9, wanted: 18 });
  });

  it("accounts for every page whatever the layout", async () => {
    const kinds = fc.constantFrom(...(Object.keys(mapping) as MappingKind[]));
    const mappings = fc.array(
      fc.record({
        gap: fc.nat(3),
        kind: kinds,
        states: fc.array(fc.constantFrom(0, PARENT, PRESENT, PRESENT | LAZY), {
          minLength: 1,
          maxLength: 12,
        }),
      }),
      { maxLength: 8 },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(mappings, { minLength: 1, maxLength: 4 }), async (layouts) => {
        const tasks = layouts.map((layout, i): TestTask => {
          const built: TestTask = { pid: i * 3 + 1, mappings: [], entries: [] };
          let page = 16;
          for (const { gap, kind, states } of layout) {
            page += gap;
            built.mappings.push({ page, pages: states.length, kind });
            for (const flags of states) {
              const last = built.entries.at(-1);
              if (
                last !== undefined &&
                flags !== 0 &&
                last.flags === flags &&
                last.page + last.pages === page
              )
                last.pages++;
              else if (flags !== 0) built.entries.push({ page, pages: 1, flags });
              page++;
            }
          }
          return built;
        });
        const { files, wanted, counts } = await rewriteSkeleton(dump(tasks), readFromTask);
        expect(counts.kept + counts.filled + counts.wanted).toBe(counts.listed);
        for (const { pid, mappings: layout, entries } of tasks) {
          const held = contents(files, pid);
          const dropped = new Set(pagesIn(wanted.filter((run) => run.nsPid === pid)));
          for (const [page, byte] of held) expect(byte).toBe(pageByte(pid, page));
          expect([...held.keys(), ...dropped].sort((a, b) => a - b)).toEqual(pagesIn(entries));
          const warpable = layout.filter(({ kind }) => ["data", "heap", "stack"].includes(kind));
          const mayDrop = new Set(pagesIn(warpable));
          for (const page of dropped) expect(mayDrop.has(page)).toBe(true);
        }
      }),
    );
  });

  it("never leaves a pagemap that listed pages without an entry", async () => {
    const only: TestTask = {
      pid: 1,
      mappings: [{ page: 16, pages: 8, kind: "data" }],
      entries: [{ page: 18, pages: 4, flags: PARENT }],
    };
    const { files, wanted, counts } = await rewriteSkeleton(dump([only]), readFromTask);
    expect([...contents(files, 1)]).toEqual([[18, pageByte(1, 18)]]);
    expect(wanted).toEqual([{ nsPid: 1, page: 19, pages: 3 }]);
    expect(counts).toEqual({ tasks: 1, listed: 4, kept: 0, filled: 1, wanted: 3 });
  });

  it("sorts the wanted pages of several tasks by pid and merges neighbours across mappings", async () => {
    const high: TestTask = {
      pid: 9,
      mappings: [
        { page: 16, pages: 4, kind: "data" },
        { page: 20, pages: 4, kind: "heap" },
        { page: 30, pages: 1, kind: "vdso" },
      ],
      entries: [
        { page: 18, pages: 4, flags: PARENT },
        { page: 30, pages: 1, flags: PRESENT },
      ],
    };
    const { wanted } = await rewriteSkeleton(dump([high, task(2)]), readFromTask);
    expect(wanted.map(({ nsPid, page }) => [nsPid, page])).toEqual([
      [2, 110],
      [2, 401],
      [2, 405],
      [9, 18],
    ]);
    expect(wanted.at(-1)).toEqual({ nsPid: 9, page: 18, pages: 4 });
  });

  it("takes lazy entries without bytes for pages that are only in the task", async () => {
    const lazy = task();
    lazy.entries = [
      { page: 112, pages: 2, flags: LAZY },
      { page: 300, pages: 1, flags: PRESENT },
    ];
    const { wanted } = await rewriteSkeleton(dump([lazy]), readFromTask);
    expect(wanted).toEqual([{ nsPid: 1, page: 112, pages: 2 }]);
  });

  it("asks for the bytes in portions of 32 MiB", async () => {
    const large: TestTask = {
      pid: 1,
      mappings: [{ page: 16, pages: 20_000, kind: "readOnly" }],
      entries: [{ page: 16, pages: 20_000, flags: PARENT }],
    };
    const requests: PageRun[][] = [];
    const { files } = await rewriteSkeleton(dump([large]), async (runs) => {
      requests.push(runs);
      return readFromTask(runs);
    });
    expect(requests.map((runs) => runs[0]!.pages)).toEqual([8192, 8192, 3616]);
    expect(Buffer.compare(files.get("pages-1.img")!, pagesOf(1, [{ page: 16, pages: 20_000 }]))).toBe(0);
  });

  it("pokes rseq_cs of each thread that was stopped inside a restartable sequence", async () => {
    const threads = {
      ...task(5),
      threads: [5, 6, 7],
      rseq: [
        { tid: 5, abi: 0n, cs: 0n },
        { tid: 6, abi: 0x191000n, cs: 0x7f00_dead_beefn },
        { tid: 7, abi: 0x192000n, cs: 0n },
      ],
    };
    const { pokes } = await rewriteSkeleton(dump([threads]), readFromTask);
    expect(pokes).toEqual([{ nsPid: 5, address: 0x191008, valueHex: "00007f00deadbeef" }]);
  });

  it("passes on all other files, but no link to the parent", async () => {
    const files = dump([task()]).set("parent", new Uint8Array(3)).set("files.img", new Uint8Array(5));
    const out = (await rewriteSkeleton(files, readFromTask)).files;
    expect([...out.keys()].sort()).toEqual([...files.keys()].filter((name) => name !== "parent").sort());
    expect(out.get("files.img")).toBe(files.get("files.img"));
  });

  it("skips a zombie, which has neither mappings nor pages", async () => {
    const files = dump([task(1), task(2)]);
    for (const name of ["mm-2.img", "pagemap-2.img", "pages-2.img", "core-2.img"]) files.delete(name);
    const { counts } = await rewriteSkeleton(files, readFromTask);
    expect(counts.tasks).toBe(1);
  });

  it("leaves complete shared memory alone", async () => {
    const files = dump([task()]).set(
      "pagemap-shmem-77.img",
      pagemapImage(8, [{ page: 0, pages: 2, flags: PRESENT }]),
    );
    const out = (await rewriteSkeleton(files, readFromTask)).files;
    expect(out.get("pagemap-shmem-77.img")).toBe(files.get("pagemap-shmem-77.img"));
  });

  const broken: [string, (files: Map<string, Uint8Array>) => void][] = [
    [
      "shared memory lies in the parent",
      (files) => files.set("pagemap-shmem-77.img", pagemapImage(8, [{ page: 0, pages: 2, flags: PARENT }])),
    ],
    [
      "shared memory uses the pages file of a task",
      (files) => files.set("pagemap-shmem-77.img", pagemapImage(1, [])),
    ],
    ["a pages file is short", (files) => files.set("pages-1.img", new Uint8Array(2 * PAGE))],
    ["a pages file is long", (files) => files.set("pages-1.img", new Uint8Array(4 * PAGE))],
    ["a pages file is missing", (files) => files.delete("pages-1.img")],
    ["a pagemap is missing", (files) => files.delete("pagemap-1.img")],
    ["the task list is missing", (files) => files.delete("pstree.img")],
    ["the image of a thread is missing", (files) => files.delete("core-1.img")],
    ["a pagemap belongs to no task", (files) => files.set("pagemap-3.img", pagemapImage(3, []))],
    [
      "a page lies in no mapping",
      (files) => files.set("pagemap-1.img", pagemapImage(1, [{ page: 99, pages: 2, flags: PARENT }])),
    ],
    [
      "entries overlap",
      (files) =>
        files.set(
          "pagemap-1.img",
          pagemapImage(1, [
            { page: 110, pages: 2, flags: PARENT },
            { page: 111, pages: 2, flags: PARENT },
          ]),
        ),
    ],
    [
      "an entry is present and in the parent",
      (files) =>
        files.set("pagemap-1.img", pagemapImage(1, [{ page: 110, pages: 3, flags: PARENT | PRESENT }])),
    ],
    [
      "an entry is nowhere",
      (files) => files.set("pagemap-1.img", pagemapImage(1, [{ page: 110, pages: 3, flags: 0 }])),
    ],
    [
      "an entry has no pages",
      (files) => files.set("pagemap-1.img", pagemapImage(1, [{ page: 110, pages: 0, flags: PARENT }])),
    ],
  ];
  it.each(broken)("refuses a dump in which %s", async (_, change) => {
    const files = dump([task()]);
    change(files);
    await expect(rewriteSkeleton(files, readFromTask)).rejects.toMatchObject({ code: "MWARP_E_IMAGE" });
  });

  it("refuses a dump in which two tasks share a pages file", async () => {
    const files = dump([task(1), task(2)]);
    files.set("pagemap-2.img", pagemapImage(1, task(2).entries));
    await expect(rewriteSkeleton(files, readFromTask)).rejects.toMatchObject({ code: "MWARP_E_IMAGE" });
  });

  it("refuses an answer of the wrong length from the source", async () => {
    const short = async (runs: PageRun[]) => (await readFromTask(runs)).subarray(1);
    await expect(rewriteSkeleton(dump([task()]), short)).rejects.toMatchObject({ code: "MWARP_E_IMAGE" });
  });

  it("refuses to copy gigabytes of read-only memory before it reads any", async () => {
    const huge: TestTask = {
      pid: 1,
      mappings: [{ page: 16, pages: 2 ** 24, kind: "readOnly" }],
      entries: [{ page: 16, pages: 2 ** 24, flags: PARENT }],
    };
    const never = () => Promise.reject(new Error("must not be read"));
    await expect(rewriteSkeleton(dump([huge]), never)).rejects.toMatchObject({ code: "MWARP_E_UNSUPPORTED" });
  });

  it("answers damaged images with MWARP_E_IMAGE or a result, and nothing else", async () => {
    const names = ["pstree.img", "mm-1.img", "pagemap-1.img", "core-1.img", "pages-1.img"];
    const damage = fc.record({
      name: fc.constantFrom(...names),
      at: fc.nat(400),
      byte: fc.nat(255),
      cut: fc.option(fc.nat(400)),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(damage, { minLength: 1, maxLength: 6 }), async (damages) => {
        const files = dump([task(1), task(2)]);
        for (const { name, at, byte, cut } of damages) {
          const bytes = Uint8Array.from(files.get(name)!);
          bytes[at % bytes.length] = byte;
          files.set(name, cut === null ? bytes : bytes.subarray(0, cut));
        }
        const read = async (runs: PageRun[]) =>
          new Uint8Array(runs.reduce((sum, run) => sum + run.pages, 0) * PAGE);
        const error: unknown = await rewriteSkeleton(files, read).then(
          () => null,
          (reason: unknown) => reason,
        );
        if (error !== null)
          expect(error).toMatchObject({ code: expect.stringMatching(/^MWARP_E_(IMAGE|UNSUPPORTED)$/) });
      }),
      { numRuns: runs(400) },
    );
  });
});

/** What is handed over to which mapping, by the images of CRIU. */
import { describe, expect, test } from "vitest";
import { rewriteSkeleton } from "../../../src/criu/skeleton.js";
import { HANDOVER_FILE, type StagedMapping } from "../../../src/protocol/stage.js";
import { dump, type MappingKind, readFromTask, type TestEntry, type TestTask } from "./images.js";

const PARENT = 1;
const PRESENT = 4;

const staged = (changes: Partial<StagedMapping> = {}): StagedMapping => ({
  nsPid: 1,
  page: 10_000,
  pages: 5_000,
  commit: "reserve",
  hugePages: "default",
  hugeBytes: 0,
  fills: [{ page: 12_000, pages: 1_000 }],
  ...changes,
});

/** A task with something before the mapping that matters: 10 pages of a file, 5 that are read only. */
const task = (
  memory: { page?: number; pages?: number; kind?: MappingKind; entries?: TestEntry[] } = {},
  pid = 1,
): TestTask => {
  const { page = 12_000, pages = 1_000, kind = "data" } = memory;
  return {
    pid,
    mappings: [
      { page: 100, pages: 10, kind: "filePrivate" },
      { page: 200, pages: 5, kind: "readOnly" },
      { page, pages, kind },
    ],
    entries: [
      { page: 100, pages: 1, flags: PRESENT },
      ...(memory.entries ?? [{ page, pages, flags: PARENT }]),
    ],
  };
};

async function listFor(tasks: TestTask[], stages: StagedMapping[]): Promise<string[] | null> {
  const { files } = await rewriteSkeleton(dump(tasks), readFromTask, stages);
  const bytes = files.get(HANDOVER_FILE);
  return bytes === undefined ? null : new TextDecoder().decode(bytes).trimEnd().split("\n");
}

describe("staged memory", () => {
  test("goes to the mapping it was staged for, which keeps its place within 2 MiB", async () => {
    const lines = await listFor([task()], [staged()]);
    expect(lines).toEqual([`task 1 0 ${(12_000 - 15) % 512}`, "vma 15 1000 0 2000", "keep 0 1000"]);
  });

  test.each([
    ["has grown at its end", { pages: 1_500 }, "vma 15 1500 0 2000"],
    ["has grown downwards", { page: 11_000, pages: 2_000 }, "vma 15 2000 0 1000"],
    ["has become smaller", { page: 12_400, pages: 100 }, "vma 15 100 0 2400"],
  ])("goes to a mapping that %s", async (_, memory, line) => {
    expect(await listFor([task(memory)], [staged()])).toContain(line);
  });

  test("that the container has freed by the freeze is not kept", async () => {
    const entries = [
      { page: 12_100, pages: 100, flags: PARENT },
      { page: 12_500, pages: 500, flags: PARENT },
    ];
    const lines = await listFor([task({ entries })], [staged()]);
    expect(lines!.slice(2)).toEqual(["keep 100 100", "keep 500 500"]);
  });

  test("is never given to a mapping of which CRIU brings a page", async () => {
    const entries = [
      { page: 12_000, pages: 999, flags: PARENT },
      { page: 12_999, pages: 1, flags: PRESENT },
    ];
    expect(await listFor([task({ entries })], [staged()])).toBeNull();
  });

  test.each<[string, MappingKind]>([
    ["read only", "readOnly"],
    ["of a file", "filePrivate"],
    ["shared", "shared"],
    ["a stack that grows", "stack"],
    ["hugetlb", "hugetlb"],
    ["a shadow stack", "shadowStack"],
    ["the vdso", "vdso"],
  ])("is never given to a mapping that is %s", async (_, kind) => {
    const memory = kind === "hugetlb" || kind === "shared" ? { kind, entries: [] } : { kind };
    expect(await listFor([task(memory)], [staged()])).toBeNull();
  });

  test.each<[string, Partial<StagedMapping>]>([
    ["another task", { nsPid: 2 }],
    ["memory that is promised in another way", { commit: "noreserve" }],
    ["a mapping with other advice on huge pages", { hugePages: "refused" }],
    ["a mapping that has grown beyond the room", { pages: 2_999 }],
    ["a mapping elsewhere", { page: 20_000, fills: [{ page: 20_000, pages: 10 }] }],
    ["other pages of the same mapping", { fills: [{ page: 14_000, pages: 10 }] }],
  ])("for %s stays where it is", async (_, changes) => {
    expect(await listFor([task()], [staged(changes)])).toBeNull();
  });

  test("in many runs is found as it would be by looking at each", async () => {
    const fills = Array.from({ length: 300 }, (_, i) => ({ page: 11_000 + i * 10, pages: 4 }));
    const lines = await listFor([task({ page: 12_003, pages: 994 })], [staged({ fills })]);
    const keeps = fills.flatMap((fill) => {
      const [start, end] = [Math.max(fill.page, 12_003), Math.min(fill.page + 4, 12_997)];
      return end > start ? [`keep ${start - 12_003} ${end - start}`] : [];
    });
    expect(keeps).toHaveLength(100);
    expect(lines!.slice(2)).toEqual(keeps);
    const shuffled = staged({ fills: fills.toReversed() });
    const odd = (await listFor([task()], [shuffled])) ?? [];
    for (const line of odd.filter((one) => one.startsWith("keep")))
      expect(line).toMatch(/^keep \d+ [1-9]\d*$/);
  });

  test("is chosen by how much of it is of use", async () => {
    const little = staged({ fills: [{ page: 12_000, pages: 1 }] });
    expect(await listFor([task()], [little, staged(), little])).toContain("vma 15 1000 1 2000");
  });

  test("in huge pages goes only where they stay whole, and that is where most of them are", async () => {
    const pages = 1_000;
    const memory = [12_000, 15_000, 18_024].map((page) => ({ page, pages }));
    const { mappings, entries } = task();
    const three: TestTask = {
      pid: 1,
      mappings: [...mappings.slice(0, 2), ...memory.map((one) => ({ ...one, kind: "data" as const }))],
      entries: [entries[0]!, ...memory.map((one) => ({ ...one, flags: PARENT }))],
    };
    // Side by side they begin at 15, 1015 and 2015: within 2 MiB each lies in another way than in the end.
    const phases = memory.map(({ page }, i) => (page - (15 + i * pages)) % 512);
    expect(new Set(phases).size).toBe(3);
    const stages = memory.map((span, i) =>
      staged({ ...span, fills: [{ page: span.page, pages: i === 1 ? pages : 600 }] }),
    );
    const small = (await listFor([three], stages))!;
    expect(small.filter((line) => line.startsWith("vma"))).toHaveLength(3);
    const huge = stages.map((one) => ({ ...one, hugeBytes: 2 ** 21 }));
    expect(await listFor([three], huge)).toEqual([
      `task 1 0 ${phases[1]}`,
      "vma 1015 1000 1 0",
      "keep 0 1000",
    ]);
  });

  test("goes to each task by itself, and a task without any is named all the same: others are forked from it", async () => {
    const child = task({}, 7);
    const lines = await listFor([task({ page: 30_000 }), child], [staged({ nsPid: 7 })]);
    expect(lines!.map((line) => line.split(" ").slice(0, 2).join(" "))).toEqual([
      "task 1",
      "task 7",
      "vma 15",
      "keep 0",
    ]);
  });

  test("shifts by a page for a shadow stack, which CRIU premaps with a token's page", async () => {
    const { mappings, ...rest } = task();
    const withStack: TestTask = {
      ...rest,
      mappings: [...mappings.slice(0, 2), { page: 300, pages: 2, kind: "shadowStack" }, mappings[2]!],
    };
    expect(await listFor([withStack], [staged()])).toContain("vma 18 1000 0 2000");
  });
});

/** The library in CRIU, before a program that makes CRIU's calls (premap.c). Needs root, as CRIU does. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const library = join(import.meta.dirname, "../../../dist/native/libmwarp-handover.so");
/** Whether the host gives huge pages to those who ask: then they must survive the moves. */
const hugePages = !readFileSync("/sys/kernel/mm/transparent_hugepage/enabled", "utf8").includes("[never]");
const SHARED = 1024;
const OWN = 512;

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "mwarp-handover-"));
  execFileSync("gcc", ["-O1", "-o", join(directory, "premap"), join(import.meta.dirname, "premap.c")]);
});
afterAll(() => rmSync(directory, { recursive: true }));

interface Told {
  readonly present: number;
  readonly exclusive: number;
  readonly huge: number;
  readonly zero: number;
  readonly contents: string;
}

interface Run {
  /** By pid and place. */
  readonly mappings: ReadonlyMap<string, Told>;
  readonly environment: string;
  readonly outcome: number;
  readonly staged: number;
  readonly handed: number;
}

/** @param plan null: there is no such file */
function run(stage: readonly string[], plan: readonly string[] | null, helper = "none"): Run {
  const list = join(directory, "stage");
  const images = mkdtempSync(join(directory, "images-"));
  writeFileSync(list, `${stage.join("\n")}\n`);
  if (plan !== null) writeFileSync(join(images, "mwarp-handover"), `${plan.join("\n")}\n`);
  const { status, stdout, stderr } = spawnSync(join(directory, "premap"), [helper], {
    env: { LD_PRELOAD: library, MWARP_STAGE: list, MWARP_IMAGES: images },
    encoding: "utf8",
    timeout: 20_000,
  });
  expect(stderr).toBe("");
  expect(status).toBe(0);
  const told = [
    ...stdout.matchAll(/^(\d+ \d+) present=(\d+) exclusive=(\d+) huge=(\d+) zero=(\d+) contents=(\w+)$/gm),
  ];
  const state = readFileSync(`${list}.state`);
  return {
    mappings: new Map(
      told.map(([, name, present, exclusive, huge, zero, contents]) => [
        name!,
        {
          present: Number(present),
          exclusive: Number(exclusive),
          huge: Number(huge),
          zero: Number(zero),
          contents: contents!,
        },
      ]),
    ),
    environment: /^environment (.*)$/m.exec(stdout)?.[1] ?? "",
    outcome: state.readInt32LE(0),
    staged: Number(state.readBigUInt64LE(8)),
    handed: Number(state.readBigUInt64LE(16)),
  };
}

/** Room of 512 pages around each, as the agent asks for it; THP 1: huge pages are asked for. */
const stages = [
  "map 1 1024000 2048 0 1",
  `fill 512 ${SHARED}`,
  "map 7 1024000 2048 0 1",
  `fill 512 ${SHARED}`,
  "map 7 2048100 1536 0 1",
  `fill 512 ${OWN}`,
];
/** The first task's mapping lies in its area as it did in the stage, within 2 MiB: its first page is a multiple of 512. */
const plan = [
  `task 1 0 ${(1024512 - 8) % 512}`,
  `vma 8 ${SHARED} 0 512`,
  `keep 0 ${SHARED}`,
  `task 7 1 ${1024512 % 512}`,
  `vma 0 ${SHARED} 1 512`,
  `keep 0 ${SHARED}`,
  `vma ${SHARED} ${OWN} 2 512`,
  `keep 0 ${OWN}`,
];
const nothing: Told = { present: 0, exclusive: 0, huge: 0, zero: SHARED, contents: "ok" };

describe("memory that was staged", () => {
  test("becomes each task's own, all of it, zero and in huge pages, and nothing else changes", () => {
    const { mappings, ...rest } = run(stages, plan);
    expect(rest).toMatchObject({
      outcome: 1,
      staged: 2 * SHARED + OWN,
      handed: 2 * SHARED + OWN,
      environment: "LD_PRELOAD=unset MWARP_STAGE=unset",
    });
    for (const [name, pages] of [
      ["1 8", SHARED],
      ["7 0", SHARED],
      [`7 ${SHARED}`, OWN],
    ] as const)
      expect(mappings.get(name), name).toEqual({
        present: pages,
        exclusive: pages,
        // The last one lies elsewhere in its area than in its stage: its huge pages were taken apart.
        huge: hugePages && pages === SHARED ? pages * 4 : 0,
        zero: pages,
        contents: "ok",
      });
  });

  test("is nobody else's, whatever else CRIU forks", () => {
    const { mappings, handed } = run(stages, plan, "cgroupd");
    expect(handed).toBe(2 * SHARED + OWN);
    expect(mappings.get("1 8")).toMatchObject({ present: SHARED, exclusive: SHARED });
  });

  test("that is wanted no more is given back", () => {
    const { mappings } = run(stages, plan.with(2, "keep 512 100\nkeep 700 300"));
    expect(mappings.get("1 8")).toMatchObject({ present: 400, exclusive: 400, zero: SHARED });
  });

  test("goes where a mapping has grown or moved by less than the room around it", () => {
    // It began 256 pages lower than when it was staged: the stage has nothing there yet.
    const moved = plan.with(1, `vma 8 ${SHARED} 0 256`).with(2, `keep 256 ${SHARED - 256}`);
    expect(run(stages, moved).mappings.get("1 8")).toMatchObject({ present: SHARED - 256, zero: SHARED });
  });

  test("never takes the place of what CRIU has read from the images", () => {
    const { mappings, handed } = run(stages, plan, "full");
    expect(handed).toBe(2 * SHARED);
    const read = { present: 1, exclusive: 1, huge: 0, zero: OWN - 1, contents: "ok" };
    expect(mappings.get(`7 ${SHARED}`)).toEqual(read);
  });

  test("is inherited by those only that it is for: a fork costs by what is", () => {
    // Small pages of the first task, which forks all others while it has them, and has no place for them in the end.
    const large = ["map 1 1024000 66560 0 2", "fill 512 65536"];
    const others = Array.from({ length: 200 }, (_, i) => `task ${100 + i} 1 0`);
    const lines = ["task 1 0 0", "vma 9 66000 3 512", "keep 0 65000", ...plan.slice(3), ...others];
    const time = (mode: string): number => {
      const since = performance.now();
      const { handed } = run([...stages, ...large], lines, mode);
      expect(handed).toBe(SHARED + OWN);
      return performance.now() - since;
    };
    time("none");
    const few = time("none");
    // With each of them copying and unmapping 256 MiB of small pages it was 30 times that.
    expect(time("many")).toBeLessThan(6 * few + 1000);
  });

  test("keeps to the mapping where that fills a part of 2 MiB: the room around it is not taken with it", () => {
    const edges = ["map 1 1024000 2048 0 1", "fill 700 16", "fill 1100 16"];
    const lines = ["task 1 0 0", `vma 8 ${SHARED} 0 512`, "keep 188 16", "keep 588 16"];
    const { mappings, staged } = run(edges, lines);
    expect(staged).toBe(32);
    expect(mappings.get("1 8")).toEqual({
      present: 32,
      exclusive: 32,
      huge: 0,
      zero: SHARED,
      contents: "ok",
    });
  });

  test.each([
    ["a mapping that CRIU premaps elsewhere", [`task 1 0 0`, `vma 9 ${SHARED} 0 512`, "keep 0 9"]],
    ["a mapping of another size", [`task 1 0 0`, `vma 8 ${SHARED - 1} 0 512`, "keep 0 9"]],
    ["memory that was staged for another task", [`task 1 0 0`, `vma 8 ${SHARED} 1 512`]],
    ["a task that is not there", [`task 3 0 0`, `vma 8 ${SHARED} 0 512`]],
  ])("stays out of the way for %s", (_, lines) => {
    const { mappings, handed } = run(stages, lines);
    expect(handed).toBe(0);
    expect(mappings.get("1 8")).toEqual(nothing);
    expect(mappings.get("7 0")).toEqual(nothing);
  });

  test.each([
    ["no list of what is to be handed over", null],
    ["a list that makes no sense", ["vma 8 1024 0 512"]],
    ["a stage that there is not", ["task 1 0 0", "vma 8 1024 9 0"]],
    ["more than a stage has", ["task 1 0 0", "vma 8 1024 0 1025"]],
    ["a page to keep that lies outside", ["task 1 0 0", `vma 8 ${SHARED} 0 512`, "keep 1024 1"]],
    ["nothing of it kept", ["task 1 0 0", `vma 8 ${SHARED} 0 512`]],
    ["parents in a circle", ["task 8 7 0", "task 7 8 0", `vma 0 ${SHARED} 1 512`, "keep 0 9"]],
  ])("is let go of with %s, and CRIU does what it does without", (_, lines) => {
    const { mappings, handed } = run(stages, lines);
    expect(handed).toBe(0);
    expect(mappings.get("1 8")).toEqual(nothing);
  });

  test.each([
    ["no list", ["nonsense"]],
    ["more to fault in than there is room for", ["map 1 1000 512 0 0", "fill 500 13"]],
    ["more than the address space has", [`map 1 1000 ${2 ** 40} 0 0`, "fill 0 10"]],
  ])("is none, and CRIU goes on, with %s", (_, lines) => {
    const { mappings, outcome, staged } = run(lines, plan);
    expect(outcome).toBeLessThan(0);
    expect(staged).toBe(0);
    expect(mappings.get("1 8")).toEqual(nothing);
  });

  test("has small pages for a process that has huge ones off", () => {
    const off = stages.map((line) => line.replace(/^(map .*) 1$/, "$1 3"));
    const { mappings } = run(off, plan);
    expect(mappings.get("1 8")).toEqual({ ...nothing, present: SHARED, exclusive: SHARED });
  });
});

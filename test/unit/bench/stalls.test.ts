/** Page stalls after a move: the busy thread of the memory program, on this host, and what is made of its answers. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Control, type SeenStalls } from "../../../src/bench/control.js";
import { untilTouched } from "../../../src/bench/stalls.js";
import { type LineProcess, startLines } from "../../support/lines.js";
import { projectRoot } from "../../support/mwarp.js";

const program = path.join(projectRoot, "dist/native/mwarp-bench-memory");
const PORT = 47_300;
const MIB = 1024 ** 2;
const LIMIT_MS = 8000;
const STILL_MS = 400;
const signal = AbortSignal.timeout(60_000);
const bootId = (digit: string): string => `${digit.repeat(36)}\n`;

describe("the busy thread of the memory program", () => {
  let folder = "";
  let boot = "";
  let running: LineProcess;
  let control: Control;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "mwarp-stalls-"));
    boot = path.join(folder, "boot_id");
    await writeFile(boot, bootId("a"));
    const argv = [PORT, 17 * MIB, 1, "thp", 0].map(String);
    running = await startLines(["env", `MWARP_BENCH_BOOT_ID=${boot}`, program, ...argv]);
    control = await Control.open(null, "127.0.0.1", PORT, LIMIT_MS, signal);
  });
  afterAll(async () => {
    await control[Symbol.asyncDispose]();
    await running[Symbol.asyncDispose]();
    await rm(folder, { recursive: true });
  });

  /** As a move looks to it: it does not run for a while, and then in another VM or in the same. */
  async function standStill(bootAfter: string): Promise<void> {
    process.kill(running.pid, "SIGSTOP");
    await sleep(STILL_MS);
    await writeFile(boot, bootId(bootAfter));
    process.kill(running.pid, "SIGCONT");
  }

  it("has seen nothing before it is started", async () => {
    expect(await control.stalls(LIMIT_MS, signal)).toMatchObject({ moved: false, touched: 0, histogram: [] });
  });

  it("works until it is moved, then accesses each page once; the standstill is none of the times", async () => {
    await control.load(LIMIT_MS, signal);
    await sleep(300);
    await standStill("a");
    await sleep(100);
    const before = await control.stalls(LIMIT_MS, signal);
    expect(before).toMatchObject({ moved: false, pages: (17 * MIB) / 4096, touched: 0, histogram: [] });
    expect(before.passes).toBeGreaterThan(0);
    await standStill("b");
    const seen = await untilTouched({ stalls: () => control.stalls(LIMIT_MS, signal) }, LIMIT_MS, signal);
    expect(seen.touched).toBe(seen.pages);
    expect(seen.histogram.reduce((sum, { pages }) => sum + pages, 0)).toBe(seen.pages);
    expect(seen.longest_ms).toBeLessThan(STILL_MS);
    expect(seen.longest_ms).toBeLessThanOrEqual(seen.window_ms);
    const { from_ns, to_ns } = seen.histogram.at(-1)!;
    expect([from_ns <= seen.longest_ms * 1e6, seen.longest_ms * 1e6 < to_ns]).toEqual([true, true]);
    await control.rest(LIMIT_MS, signal);
    expect(await control.verify(LIMIT_MS, signal)).toMatchObject({ wrong: 0 });
  });

  it("begins anew when it is started again, and leaves memory be that is laid out anew", async () => {
    await control.load(LIMIT_MS, signal);
    expect(await control.stalls(LIMIT_MS, signal)).toMatchObject({ moved: false, touched: 0, histogram: [] });
    await control.renew(LIMIT_MS, signal);
    expect(await control.verify(LIMIT_MS, signal)).toMatchObject({ wrong: 0 });
    const { passes } = await control.stalls(LIMIT_MS, signal);
    await sleep(100);
    expect((await control.stalls(LIMIT_MS, signal)).passes).toBe(passes);
  });
});

describe("waiting for the last page", () => {
  const seen = (changes: Partial<SeenStalls>): SeenStalls => ({
    ...{ moved: true, passes: 3, pages: 100, touched: 100, window_ms: 5, longest_ms: 1, histogram: [] },
    ...changes,
  });
  const answers = (...list: readonly SeenStalls[]) => {
    let asked = 0;
    return { stalls: async () => list[Math.min(asked++, list.length - 1)] };
  };

  it("ends with the first answer that has all of them", async () => {
    const container = answers(
      seen({ moved: false, touched: 0 }),
      seen({ touched: 99 }),
      seen({ longest_ms: 7 }),
    );
    expect(await untilTouched(container, LIMIT_MS, signal)).toMatchObject({ touched: 100, longest_ms: 7 });
  });

  it.each([
    [seen({ touched: 99 }), "0 s after the migration the container has accessed 99 of 100 pages"],
    [
      seen({ moved: false, touched: 100 }),
      "0 s after the migration the container has not noticed that it was moved",
    ],
  ])("gives no figure when they do not come: %#", async (answer, message) => {
    await expect(untilTouched(answers(answer), 0, signal)).rejects.toMatchObject({
      code: "MWARP_E_TIMEOUT",
      message,
    });
  });
});

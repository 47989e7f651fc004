/** The program in the benchmark's containers, on this host: what it answers, and that it finds a wrong page. */
import { open } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { Control } from "../../../src/bench/control.js";
import { type LineProcess, startLines } from "../../support/lines.js";
import { projectRoot } from "../../support/mwarp.js";

const program = path.join(projectRoot, "dist/native/mwarp-bench-memory");
const MIB = 1024 ** 2;
const LIMIT_MS = 8000;
const signal = AbortSignal.timeout(60_000);
let port = 47_200;

interface Started extends AsyncDisposable {
  readonly process: LineProcess;
  readonly control: Control;
}

async function start(mib: number, processes: number, pages: string, share: number): Promise<Started> {
  port++;
  const argv = [port, mib * MIB, processes, pages, share].map(String);
  const process = await startLines([program, ...argv]);
  const control = await Control.open(null, "127.0.0.1", port, LIMIT_MS, signal);
  return {
    process,
    control,
    [Symbol.asyncDispose]: async () => {
      await control[Symbol.asyncDispose]();
      await process[Symbol.asyncDispose]();
    },
  };
}

describe("the memory program", () => {
  it.each([
    ["thp", 1],
    ["scattered", 1],
    ["thp", 5],
    ["scattered", 16],
  ] as const)(
    "holds %s pages in %i processes, every one right, before and after they are laid out anew",
    async (pages, processes) => {
      await using started = await start(8, processes, pages, 0);
      const { control, process } = started;
      const all = Math.floor((8 * MIB) / 4096 / processes) * processes;
      expect(await control.verify(LIMIT_MS, signal)).toEqual({ pages: all, wrong: 0 });
      await control.renew(LIMIT_MS, signal);
      expect(await control.verify(LIMIT_MS, signal)).toEqual({ pages: all, wrong: 0 });
      expect(await control.touch(LIMIT_MS, signal)).toBeGreaterThan(0);
      expect(await control.written(LIMIT_MS, signal)).toBe(0);
      expect(process.lines.filter((line) => line.startsWith("process "))).toHaveLength(processes);
    },
  );

  it("writes at the rate that it was told, and stays right under it and after new pages", async () => {
    await using started = await start(8, 2, "thp", 2);
    const { control } = started;
    const before = await control.written(LIMIT_MS, signal);
    const begun = performance.now();
    await sleep(1500);
    const written = (await control.written(LIMIT_MS, signal)) - before;
    const expected = ((performance.now() - begun) / 1000) * 2 * 2048;
    // Not more than was asked for; less on a machine that is busy.
    expect(written).toBeLessThan(expected * 1.15);
    expect(written).toBeGreaterThan(expected * 0.3);
    expect(await control.verify(LIMIT_MS, signal)).toMatchObject({ wrong: 0 });
    await control.renew(LIMIT_MS, signal);
    expect(await control.verify(LIMIT_MS, signal)).toMatchObject({ wrong: 0 });
  });

  it("makes up for no time in which it stood still", async () => {
    await using started = await start(4, 1, "thp", 1);
    const { control, process: running } = started;
    process.kill(running.pid, "SIGSTOP");
    const before = performance.now();
    await sleep(2000);
    process.kill(running.pid, "SIGCONT");
    await sleep(100);
    const written = await control.written(LIMIT_MS, signal);
    // 1024 pages a second: two seconds would be 2048, a quarter of a second is what it may catch up.
    expect(written).toBeLessThan(1024 * (0.25 + 0.6 + (performance.now() - before - 2000) / 1000));
  });

  it.each([
    ["a page in another's place, of the first process", 0, (page: Buffer, other: Buffer) => other.copy(page)],
    ["a page of zeros, of another process", 1, (page: Buffer) => page.fill(0)],
    [
      "a page of which one line is of another time",
      0,
      (page: Buffer) => page.writeUInt8(page[2048]! ^ 1, 2048),
    ],
  ])("finds %s", async (_what, number, spoil) => {
    await using started = await start(8, 2, "scattered", 0);
    const { control, process: running } = started;
    const line = await running.waitFor(new RegExp(`^process ${number} at=0x([0-9a-f]+) pages=(\\d+)`));
    const address = Number.parseInt(line[1]!, 16);
    const pid = number === 0 ? running.pid : await childOf(running.pid);
    const memory = await open(`/proc/${pid}/mem`, "r+");
    const [page, other] = [Buffer.alloc(4096), Buffer.alloc(4096)];
    await memory.read(page, 0, 4096, address + 300 * 4096);
    await memory.read(other, 0, 4096, address + 700 * 4096);
    spoil(page, other);
    await memory.write(page, 0, 4096, address + 300 * 4096);
    await memory.close();
    expect(await control.verify(LIMIT_MS, signal)).toEqual({ pages: 2048, wrong: 1 });
  });

  it("leaves a client for a newer one", async () => {
    await using started = await start(1, 1, "thp", 0);
    await using second = await Control.open(null, "127.0.0.1", port, LIMIT_MS, signal);
    expect(await second.verify(LIMIT_MS, signal)).toEqual({ pages: 256, wrong: 0 });
    await expect(started.control.verify(LIMIT_MS, signal)).rejects.toThrow(/ended/);
  });

  it("is given up when it does not answer", async () => {
    await expect(Control.open(null, "127.0.0.1", 47_199, 300, signal)).rejects.toThrow(/nobody answers/);
  });
});

async function childOf(pid: number): Promise<number> {
  const file = await open(`/proc/${pid}/task/${pid}/children`);
  const text = await file.readFile("utf8");
  await file.close();
  return Number(text.trim().split(" ")[0]);
}

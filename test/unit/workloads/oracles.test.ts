/** The oracles of the end-to-end tests: each must find one wrong page, or they prove nothing. */
import { open } from "node:fs/promises";
import { connect } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { type LineProcess, startLines } from "../../support/lines.js";

const workload = (name: string): string =>
  path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../../dist/test", name);

/** Address of the program's main mapping, from its ready line. */
async function ready(program: LineProcess): Promise<number> {
  const match = await program.waitFor(/ ready .*pages=\d+ at=0x([0-9a-f]+)/);
  return Number.parseInt(match[1], 16);
}

/** What the program answers to a request that is sent now. */
async function verdict(program: LineProcess): Promise<string> {
  const from = program.lines.length;
  process.kill(program.pid, "SIGUSR1");
  return (await program.waitFor(/^verify (ok|BAD)/, { from }))[1];
}

async function copyPage(pid: number, source: number, target: number): Promise<void> {
  const memory = await open(`/proc/${pid}/mem`, "r+");
  const page = Buffer.alloc(4096);
  await memory.read(page, 0, page.length, source);
  await memory.write(page, 0, page.length, target);
  await memory.close();
}

const oracles: readonly (readonly [name: string, args: readonly string[]])[] = [
  ["edge", ["16", "thp"]],
  ["edge", ["16", "scattered"]],
  ["pattern", ["16", "small"]],
  ["neighbour", ["4", "thp"]],
  ["cow", ["8", "2"]],
  ["classes", ["1024"]],
  ["zerocopy", ["47124", "4"]],
];

describe("an oracle of the end-to-end tests", () => {
  it.each(oracles)(
    "%s %j says ok while nothing is wrong, and finds a page in another's place",
    async (name, args) => {
      await using program = await startLines([workload(name), ...args]);
      const start = await ready(program);
      expect(await verdict(program)).toBe("ok");
      expect(await verdict(program)).toBe("ok");
      // The program runs meanwhile, so the two pages are of about the same moment: as after a mixed-up exchange.
      await copyPage(program.pid, start + 700 * 4096, start + 300 * 4096);
      expect(await verdict(program)).toBe("BAD");
    },
  );

  it("edge finds a page that missed one round", async () => {
    await using program = await startLines([workload("edge"), "16", "small"]);
    const start = await ready(program);
    process.kill(program.pid, "SIGSTOP");
    const memory = await open(`/proc/${program.pid}/mem`, "r+");
    const page = Buffer.alloc(4096);
    await memory.read(page, 0, page.length, start + 100 * 4096);
    page[0] = (page[0] + 255) % 256;
    page[4095] = page[0];
    // Twice the same request must answer alike: stop, spoil, ask, go on.
    await memory.write(page, 0, page.length, start + 100 * 4096);
    await memory.close();
    const from = program.lines.length;
    process.kill(program.pid, "SIGUSR1");
    process.kill(program.pid, "SIGCONT");
    expect((await program.waitFor(/^verify (ok|BAD)/, { from }))[1]).toBe("BAD");
  });

  it.each([
    ["all of it", null, null],
    ["a wrong page", 300, (300 * 4096) / 4],
  ] as const)("the reader of zerocopy finds %s", async (_name, spoilt, wrong) => {
    await using server = await startLines([workload("zerocopy"), "47125", "4"]);
    const start = await ready(server);
    if (spoilt !== null) await copyPage(server.pid, start + 700 * 4096, start + spoilt * 4096);
    const program = path.resolve(import.meta.dirname, "../../support/drain-client.mjs");
    const bytes = 4 << 20;
    await using reader = await startLines([process.execPath, program, "127.0.0.1", "47125", String(bytes)]);
    await reader.waitFor(/connected/);
    await server.waitFor(/sent bytes=/);
    reader.send("read");
    const [verdict] = await reader.waitFor(/\{"bytes".*|\{"error".*/);
    expect(JSON.parse(verdict)).toEqual({ bytes, wrong });
  });

  it("tcpcount answers every line once, with the number of lines so far", async () => {
    await using server = await startLines([workload("tcpcount"), "47123"]);
    await server.waitFor(/tcpcount ready/);
    const socket = connect(47123, "127.0.0.1");
    socket.write("7\n8");
    let text = "";
    await new Promise<void>((resolve, reject) => {
      socket.on("error", reject);
      socket.on("data", (data) => {
        text += data.toString();
        if (text.length === 4) socket.write("\n9\n");
        if (text.endsWith("9 3\n")) resolve();
      });
    });
    socket.destroy();
    expect(text).toBe("7 1\n8 2\n9 3\n");
  });
});

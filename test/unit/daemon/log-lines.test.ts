import { expect, it } from "vitest";
import { readLogLines } from "../../../src/daemon/log-lines.js";

const time = "2026-01-01T00:00:00.123456789Z";

async function read(...lines: readonly (string | Buffer)[]): Promise<unknown[]> {
  async function* source(): AsyncGenerator<Buffer> {
    for (const line of lines) yield Buffer.from(line);
  }
  const entries = [];
  for await (const { stream, text, time } of readLogLines(source())) entries.push([stream, text, time]);
  return entries;
}

it("lines are read in the CRI format; others are shown whole", async () => {
  expect(await read(`${time} stderr F a F b`, `${time} stdout F`, "oops")).toEqual([
    ["stderr", "a F b", time],
    ["stdout", "", time],
    ["stdout", "oops", ""],
  ]);
});

it("a line that was cut is one line again, whatever the other stream says in between", async () => {
  const umlaut = Buffer.from("ü");
  const head = Buffer.from(`${time} stdout P x`);
  const rest = Buffer.from("later stdout F ");
  expect(
    await read(
      Buffer.concat([head, umlaut.subarray(0, 1)]),
      `${time} stderr F between`,
      `${time} stderr P never `,
      Buffer.concat([rest, umlaut.subarray(1), Buffer.from("y")]),
    ),
  ).toEqual([
    ["stderr", "between", time],
    ["stdout", "xüy", time],
    ["stderr", "never ", time],
  ]);
});

it("a line without end comes in pieces", async () => {
  const piece = "z".repeat(600_000);
  const lines = await read(...Array.from({ length: 4 }, () => `${time} stdout P ${piece}`));
  expect(lines).toHaveLength(2);
});

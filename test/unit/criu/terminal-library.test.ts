/** The library in CRIU, before a program that makes a container's terminal as CRIU does (session.c). Needs root, as CRIU does. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const library = join(import.meta.dirname, "../../../dist/native/libmwarp-handover.so");
let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "mwarp-session-"));
  mkdirSync(join(directory, "pts"));
  execFileSync("gcc", ["-O1", "-o", join(directory, "session"), join(import.meta.dirname, "session.c")]);
});
afterAll(() => rmSync(directory, { recursive: true }));

function run(environment: Readonly<Record<string, string>>, ...more: readonly string[]): string[] {
  const namespaces = ["--pid", "--fork", "--mount"];
  const program = ["env", `LD_PRELOAD=${environment.LD_PRELOAD ?? ""}`, join(directory, "session")];
  return execFileSync("unshare", [...namespaces, ...program, join(directory, "pts"), ...more], {
    env: { ...process.env, ...environment, LD_PRELOAD: "" },
    encoding: "utf8",
  })
    .trimEnd()
    .split("\n");
}

describe("the terminal of a container's session", () => {
  it("is that of the tasks forked in the session, which only inherit it", () => {
    const environment = { LD_PRELOAD: library, MWARP_TERMINAL: "1" };
    expect(run(environment)).toEqual(["a task has it", "index 0 open=1"]);
  });

  it("is nobody's by CRIU itself, nor where the library is there for something else, nor without a session", () => {
    const without = ["a task has none", "index 0 open=1"];
    expect(run({})).toEqual(without);
    expect(run({ LD_PRELOAD: library })).toEqual(without);
    expect(run({ LD_PRELOAD: library, MWARP_TERMINAL: "1" }, "no session")).toEqual(without);
  });
});

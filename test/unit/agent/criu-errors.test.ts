import { describe, expect, it } from "vitest";
import { criuErrorLines } from "../../../src/agent/migration/criu-errors.js";

const talk = (n: number): string[] => Array.from({ length: n }, (_, i) => `(00.0${i}) talk ${i}`);

describe("criuErrorLines", () => {
  it("quotes each error with the three lines before it", () => {
    const log = [
      ...talk(9),
      "(00.1)      1: Error (criu/mem.c:7): no",
      ...talk(2),
      "(00.2) Error (criu/cr-restore.c:9): failed",
      "(00.3) bye",
    ];
    expect(criuErrorLines(log.join("\n"))).toEqual([...log.slice(6, 10), ...log.slice(10, 13)]);
  });

  it("gives at most 20 lines and then prefers errors over talk", () => {
    const log = Array.from({ length: 30 }, (_, i) => [`before ${i}`, `(00.${i}) Error (a.c:${i}): x`]).flat();
    const lines = criuErrorLines(log.join("\n"));
    expect(lines).toHaveLength(20);
    expect(lines.every((line) => line.includes("Error ("))).toBe(true);
    expect(lines[0]).toContain("a.c:0");
  });

  it("gives the last lines of a log without errors, and nothing for an empty one", () => {
    expect(criuErrorLines(`${talk(9).join("\n")}\n\n`)).toEqual(talk(9).slice(-3));
    expect(criuErrorLines("")).toEqual([]);
  });

  it("does not let what is said of every shared memory hide the reason", () => {
    const shared =
      "(01.1) Error (criu/page-xfer.c:407): page-xfer: No parent image found, though parent directory is set";
    const lines = criuErrorLines(
      [...Array(30).fill(shared), ...talk(3), "(02.0) Error (criu/sk-unix.c:1): why"].join("\n"),
    );
    expect(lines).toEqual([...talk(3), "(02.0) Error (criu/sk-unix.c:1): why"]);
  });

  it("cuts lines that are too long to read", () => {
    expect(criuErrorLines(`Error (x): ${"y".repeat(5000)}`)[0]!.length).toBeLessThan(420);
  });
});

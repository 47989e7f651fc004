import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { commandsPage, errorsPage } from "../../../src/cli/docs.js";
import { buildProgram } from "../../../src/cli/program.js";
import { Session } from "../../../src/cli/session.js";
import { ExitCode, errorCodes, errorTable } from "../../../src/errors.js";
import { FakeIo } from "./fake-io.js";

const committed = (name: string): string =>
  readFileSync(new URL(`../../../docs/${name}`, import.meta.url), "utf8");

describe("the error table", () => {
  it("has a remedy of its own for every code", () => {
    const remedies = errorCodes.map((code) => errorTable[code].remedy);
    expect(new Set(remedies).size).toBe(remedies.length);
    for (const remedy of remedies) expect(remedy).toMatch(/^[A-Z].*\.$/);
  });

  it("uses exit statuses that are documented", () => {
    const known: number[] = Object.values(ExitCode);
    for (const code of errorCodes) expect(known).toContain(errorTable[code].exit);
    for (const status of known) expect(errorsPage()).toContain(`| ${status} | `);
  });
});

describe("docs/ (write it anew with node scripts/write-docs.mjs)", () => {
  it("holds the error table", () => {
    expect(committed("errors.md")).toBe(errorsPage());
  });
  it("holds the command tree", () => {
    expect(committed("commands.md")).toBe(commandsPage(buildProgram(new Session(new FakeIo()))));
  });
});
